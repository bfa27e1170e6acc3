package overlay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p"
)

const (
	// gatherTime is how long further providers of a service are awaited once
	// one is found, so that a near one is not missed for a far one.
	gatherTime = 100 * time.Millisecond

	// providersFresh is after what time a dial has the providers of a service looked
	// for again. It does not wait for that until providersLast.
	providersFresh = 10 * time.Second
	providersLast  = 2 * time.Minute

	// A member that was dialed stays the nearest until another is nearer by more than
	// what a measurement of the round trip errs by: by half and this.
	nearerBy = 2 * time.Millisecond

	// maxNearest bounds the services whose providers are remembered.
	maxNearest = 256
)

// spreadKey is under which a context says that a stream is for any provider.
type spreadKey struct{}

// Spread returns a context with which a dial of "/web" goes to the members that offer
// it in turn, and not always to the nearest.
func Spread(ctx context.Context) context.Context { return context.WithValue(ctx, spreadKey{}, true) }

// nearest remembers who offers services that were dialed without a member. Each
// search of the DHT would take longer than the dial.
type nearest struct {
	mu       sync.Mutex // guards the fields below
	services map[string]*offered
}

// offered is what is remembered of a service.
type offered struct {
	by        []peer.ID
	last      peer.ID // whom the last dial has reached
	found     time.Time
	searching bool
	turn      int // of the next dial that is to be spread
}

// known returns what is remembered of a service, by whom it is offered only if that is
// not too old, and whether it should be looked for again, which the caller then does.
func (n *nearest) known(service string, now time.Time) (known offered, search bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.services[service]
	switch {
	case o == nil:
		return offered{}, false
	case now.Sub(o.found) >= providersLast:
		return offered{last: o.last}, false
	}
	search = !o.searching && now.Sub(o.found) >= providersFresh
	o.searching = o.searching || search
	known = *o
	known.by = slices.Clone(o.by)
	o.turn++
	return known, search
}

// learn takes in what a search has found.
func (n *nearest) learn(service string, by []peer.ID, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(by) == 0 {
		delete(n.services, service)
		return
	}
	o := n.services[service]
	if o == nil {
		n.makeRoomLocked()
		o = new(offered)
		n.services[service] = o
	}
	o.by, o.found, o.searching = slices.Clone(by), now, false
}

// makeRoomLocked forgets what was found first if there is too much.
func (n *nearest) makeRoomLocked() {
	if n.services == nil {
		n.services = map[string]*offered{}
	}
	if len(n.services) < maxNearest {
		return
	}
	first := ""
	for service, o := range n.services {
		if first == "" || o.found.Before(n.services[first].found) {
			first = service
		}
	}
	delete(n.services, first)
}

// reached takes in whom a dial has reached.
func (n *nearest) reached(service string, id peer.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if o := n.services[service]; o != nil {
		o.last = id
	}
}

// lose forgets that a member offers a service, until the next search.
func (n *nearest) lose(service string, id peer.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.services[service]
	if o == nil {
		return
	}
	o.by = slices.DeleteFunc(o.by, func(other peer.ID) bool { return other == id })
	if len(o.by) == 0 {
		delete(n.services, service)
	}
}

// dialNearest dials those who offer a service, the nearest first or in turn, until
// one agrees. When none does who was found some time ago it looks anew, and asks at last,
// since the DHT does not tell of what is for some only.
func (m *Mesh) dialNearest(ctx context.Context, req request) (*Conn, error) {
	ids, remembered := m.providers(p2p.AnyPath(ctx), req.Service)
	c, err := m.dialAny(ctx, ids, req)
	if err != nil && remembered && ctx.Err() == nil {
		ids = m.findProviders(p2p.AnyPath(ctx), req.Service)
		c, err = m.dialAny(ctx, ids, req)
	}
	if err == nil || len(ids) == 0 || ctx.Err() != nil {
		return c, err
	}
	others := slices.DeleteFunc(m.askForService(p2p.AnyPath(ctx), req.Service), func(id peer.ID) bool { return slices.Contains(ids, id) })
	if len(others) == 0 {
		return nil, err
	}
	m.nearest.learn(req.Service, others, time.Now().Add(-providersFresh))
	c, also := m.dialAny(ctx, others, req)
	if also != nil {
		return nil, fmt.Errorf("%w; then %w", err, also)
	}
	return c, nil
}

// dialAny dials one after the other until one agrees.
func (m *Mesh) dialAny(ctx context.Context, ids []peer.ID, req request) (*Conn, error) {
	var errs []error
	for _, id := range ids {
		c, err := m.dialMember(ctx, id, req)
		if err == nil {
			m.nearest.reached(req.Service, id)
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !errors.Is(err, ErrBusy) && !errors.Is(err, p2p.ErrOnlyRelay) {
			m.nearest.lose(req.Service, id)
		}
		errs = append(errs, fmt.Errorf("%s: %w", m.nameOf(id), err))
	}
	if len(errs) == 0 {
		return nil, ErrNoProvider
	}
	return nil, fmt.Errorf("%w: %w", ErrNoProvider, errors.Join(errs...))
}

// providers returns who says that it offers a service, in the order in which they
// are to be tried, and whether it was known before.
func (m *Mesh) providers(ctx context.Context, service string) (ids []peer.ID, remembered bool) {
	spread := ctx.Value(spreadKey{}) != nil
	if m.offers(service) && !spread {
		return []peer.ID{m.node.ID()}, false
	}
	known, search := m.nearest.known(service, time.Now())
	ids = known.by
	switch remembered = len(ids) > 0; {
	case !remembered:
		ids = m.findProviders(ctx, service)
	case search:
		m.searchAgain(service)
	}
	if !spread {
		sortNearest(ids, known.last, m.howNear)
		return ids, remembered
	}
	if m.offers(service) {
		ids = append(ids, m.node.ID())
	}
	slices.SortFunc(ids, func(a, b peer.ID) int { return strings.Compare(string(a), string(b)) })
	if len(ids) > 0 {
		turn := known.turn % len(ids)
		ids = slices.Concat(ids[turn:], ids[:turn])
	}
	return ids, remembered
}

// findProviders searches for who offers a service, and does not await those that are
// found late: it has them looked for after that.
func (m *Mesh) findProviders(ctx context.Context, service string) []peer.ID {
	ids := m.searchProviders(ctx, service, gatherTime)
	m.nearest.learn(service, ids, time.Now().Add(-providersFresh))
	return ids
}

// searchAgain does so in the background, and awaits all.
func (m *Mesh) searchAgain(service string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.wg.Go(func() {
		ids := m.searchProviders(m.ctx, service, resolveTimeout)
		m.nearest.learn(service, ids, time.Now())
	})
}

// searchProviders asks the DHT who offers a service, and the members if that knows
// of none. Once one is found it goes on for a while, and the nearest are first.
func (m *Mesh) searchProviders(ctx context.Context, service string, more time.Duration) []peer.ID {
	var found []peer.ID
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	for info := range m.table.Providers(ctx, m.serviceKey(service)) {
		if info.ID == m.node.ID() { // of a service withdrawn since, or not looked for
			continue
		}
		if slices.Contains(found, info.ID) { // two have told of it at the same time
			continue
		}
		m.node.NoteSource(info.ID, p2p.SourceDHT, info.Addrs...)
		found = append(found, info.ID)
		if len(found) == 1 {
			time.AfterFunc(more, cancel)
		}
		if len(found) == maxCandidates {
			break
		}
	}
	if len(found) == 0 && ctx.Err() == nil {
		found = m.askForService(ctx, service)
	}
	sortNearest(found, "", m.howNear)
	return found
}

// nearness is how near a member is: by the path to it, and then by the round trip.
type nearness struct {
	distance int
	rtt      time.Duration
}

func (n nearness) compare(other nearness) int {
	return cmp.Or(cmp.Compare(n.distance, other.distance), cmp.Compare(n.rtt, other.rtt))
}

// howNear tells how near a member is. On this machine the round trip is left out:
// it tells what the processor was busy with.
func (m *Mesh) howNear(id peer.ID) nearness {
	path := m.node.PathTo(id)
	if path == p2p.PathUnix {
		return nearness{distance: distance(path)}
	}
	return nearness{distance(path), m.node.RTT(id)}
}

// sortNearest puts the nearest first, and before it the last that was dialed unless
// others are clearly nearer: streams do not go to and fro between two that are as near.
func sortNearest(ids []peer.ID, last peer.ID, howNear func(peer.ID) nearness) {
	slices.SortStableFunc(ids, func(a, b peer.ID) int { return howNear(a).compare(howNear(b)) })
	at := slices.Index(ids, last)
	if at <= 0 {
		return
	}
	near, first := howNear(last), howNear(ids[0])
	if near.distance == first.distance && near.rtt <= first.rtt+first.rtt/2+nearerBy {
		copy(ids[1:], ids[:at])
		ids[0] = last
	}
}

// distance puts peers without a connection behind all others.
func distance(p p2p.Path) int {
	if p == p2p.PathUnknown {
		return int(p2p.PathRelay) + 1
	}
	return int(p)
}
