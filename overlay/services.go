package overlay

import (
	"cmp"
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
// a frame with the services that the one who asks may use.
const servicesProtocol = "/p2pnode/services/1"

// maxListed bounds the names in that frame.
const maxListed = 512

type listed struct {
	Streams   []string `cbor:"1,keyasint,omitempty"`
	Datagrams []string `cbor:"2,keyasint,omitempty"`
	Ports     []uint16 `cbor:"3,keyasint,omitempty"` // the first, the last, and their kind
}

// A Service is one that a member offers.
type Service struct {
	Name  string // PortsService for those that are named like ports
	Kind  Kind
	Ports Ports // none unless Name is PortsService
}

// Is tells whether the service is the one of a name, or one of its ports is.
func (s Service) Is(name string) bool { return s.Name == name || s.Ports.names(name) }

// Services returns the services that this node offers, sorted by name.
func (m *Mesh) Services() []Service {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Service
	for _, name := range sortedKeys(m.services) {
		l := m.services[name]
		out = append(out, Service{name, l.kind, l.ports})
	}
	return out
}

func (m *Mesh) serveServices(s *p2p.Stream) error {
	return writeMessage(s, listServices(m.servicesFor(s.Peer())))
}

// servicesFor returns the services here that a member may use. One that is restricted to
// some services hears which of the ports are among them.
func (m *Mesh) servicesFor(id peer.ID) (out []Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	member, ok := m.namedLocked(id)
	if !ok {
		return nil
	}
	for _, name := range sortedKeys(m.services) {
		l := m.services[name]
		if l.access.permits(member, name) {
			out = append(out, Service{name, l.kind, l.ports})
		}
	}
	for _, name := range member.Services {
		if l := m.listenerLocked(name); l != nil && l.service == PortsService && l.access.permits(member, name) {
			out = append(out, Service{Name: name, Kind: l.kind})
		}
	}
	sortServices(out)
	return out
}

func sortServices(all []Service) {
	slices.SortFunc(all, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
}

// listServices makes what is told of services, of which only so many are.
func listServices(all []Service) (l listed) {
	for _, s := range all {
		switch {
		case s.Name == PortsService:
			l.Ports = []uint16{s.Ports.First, s.Ports.Last, uint16(s.Kind)}
		case len(l.Streams)+len(l.Datagrams) == maxListed:
		case s.Kind == KindDatagram:
			l.Datagrams = append(l.Datagrams, s.Name)
		default:
			l.Streams = append(l.Streams, s.Name)
		}
	}
	return l
}

// services checks what was told, and returns it sorted by name.
func (l listed) services() (out []Service, err error) {
	if len(l.Ports) > 0 {
		if len(l.Ports) != 3 || l.Ports[2] > uint16(KindDatagram) {
			return nil, fmt.Errorf("ports of %d numbers, or of no kind: want the first, the last and their kind", len(l.Ports))
		}
		p := Ports{l.Ports[0], l.Ports[1]}
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("ports %v: %w", p, err)
		}
		out = append(out, Service{PortsService, Kind(l.Ports[2]), p})
	}
	for kind, names := range [][]string{KindStream: l.Streams, KindDatagram: l.Datagrams} {
		for _, name := range names {
			if err := credential.CheckName(name); err != nil {
				return nil, fmt.Errorf("service %w", err)
			}
			out = append(out, Service{Name: name, Kind: Kind(kind)})
		}
	}
	sortServices(out)
	return out, nil
}

// ServicesOf returns the services that a member offers and that this node may use, sorted
// by name. The member is given by name or by peer ID.
func (m *Mesh) ServicesOf(ctx context.Context, member string) ([]Service, error) {
	id, err := m.find(ctx, member)
	if err == nil && id == m.node.ID() {
		return m.Services(), nil
	}
	var services []Service
	if err == nil {
		services, err = m.fetchServices(ctx, id)
	}
	if err != nil {
		return nil, fmt.Errorf("services of %.80s: %w", member, m.fault(ctx, err))
	}
	return services, nil
}

func (m *Mesh) fetchServices(ctx context.Context, id peer.ID) ([]Service, error) {
	s, err := m.openStream(ctx, id, servicesProtocol)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	_ = s.CloseWrite()
	var l listed
	err = withDeadline(ctx, s, func() error { return readMessage(s, maxListed*(credential.MaxName+3)+32, &l) })
	if err != nil {
		return nil, err
	}
	return l.services()
}

const (
	// askedForService is how many members are asked for a service that the DHT
	// does not tell of, the nearest ones.
	askedForService = 16

	// askForServiceTimeout bounds it.
	askForServiceTimeout = 2 * time.Second
)

// askForService returns the members that offer this node a service of which the DHT
// does not tell, since not all may use it, or since it is one of their ports.
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
			all, err := m.fetchServices(ctx, id)
			offers[i] = err == nil && slices.ContainsFunc(all, func(s Service) bool { return s.Is(service) })
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
