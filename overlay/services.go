package overlay

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// servicesProtocol is how a member asks another what it offers: the other writes
// a frame with the names of the services that the one who asks may use.
const servicesProtocol = "/p2pnode/services/1"

// maxListed bounds the names in that frame.
const maxListed = 512

type listed struct {
	Names []string `cbor:"1,keyasint,omitempty"`
}

func (m *Mesh) serveServices(s *p2p.Stream) error {
	return writeMessage(s, listed{m.servicesFor(s.Peer())})
}

// servicesFor returns the names of the services here that a member may use, but for
// those that are named like ports.
func (m *Mesh) servicesFor(id peer.ID) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	member, ok := m.namedLocked(id)
	if !ok {
		return nil
	}
	names := slices.DeleteFunc(sortedKeys(m.services), func(name string) bool {
		return name == PortsService || !m.services[name].access.permits(member, name)
	})
	return names[:min(len(names), maxListed)]
}

// ServicesOf returns the names of the services that a member offers and that this
// node may use, sorted; of its ports a member does not tell. The member is given by name or by peer ID.
func (m *Mesh) ServicesOf(ctx context.Context, member string) ([]string, error) {
	id, err := m.find(ctx, member)
	if err == nil && id == m.node.ID() {
		return m.Services(), nil
	}
	var names []string
	if err == nil {
		names, err = m.fetchServices(ctx, id)
	}
	if err != nil {
		return nil, fmt.Errorf("services of %.80s: %w", member, m.fault(ctx, err))
	}
	return names, nil
}

func (m *Mesh) fetchServices(ctx context.Context, id peer.ID) ([]string, error) {
	s, err := m.openStream(ctx, id, servicesProtocol)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	_ = s.CloseWrite()
	var l listed
	err = withDeadline(ctx, s, func() error { return readMessage(s, maxListed*(credential.MaxName+3)+16, &l) })
	if err != nil {
		return nil, err
	}
	for _, name := range l.Names {
		if err := credential.CheckName(name); err != nil {
			return nil, fmt.Errorf("service %w", err)
		}
	}
	return l.Names, nil
}

const (
	// askedForService is how many members are asked for a service that the DHT
	// does not tell of, the nearest ones.
	askedForService = 16

	// askForServiceTimeout bounds it.
	askForServiceTimeout = 2 * time.Second
)

// askForService returns the members that offer this node a service that not all
// may use.
func (m *Mesh) askForService(ctx context.Context, service string) []peer.ID {
	ctx, cancel := context.WithTimeout(ctx, askForServiceTimeout)
	defer cancel()
	var near []peer.ID
	for _, other := range m.Members() {
		if !other.Self && other.Up {
			near = append(near, other.ID)
		}
	}
	sortNearest(near, "", m.howNear)
	near = near[:min(len(near), askedForService)]
	offers := make([]bool, len(near))
	var wg sync.WaitGroup
	for i, id := range near {
		wg.Go(func() {
			names, err := m.fetchServices(ctx, id)
			offers[i] = err == nil && slices.Contains(names, service)
		})
	}
	wg.Wait()
	var out []peer.ID
	for i, id := range near {
		if offers[i] {
			out = append(out, id)
		}
	}
	return out
}
