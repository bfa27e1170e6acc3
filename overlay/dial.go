package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p"
)

var (
	// ErrUnknownMember says that no member of a name or ID could be found.
	ErrUnknownMember = errors.New("no such member")

	// ErrNoProvider says that no member was found that offers a service.
	ErrNoProvider = errors.New("no member offers the service")
)

// An AmbiguousError says that several members have the name that was dialed.
// Dial one by its ID.
type AmbiguousError struct {
	Name string
	IDs  []peer.ID
}

func (e *AmbiguousError) Error() string {
	ids := make([]string, len(e.IDs))
	for i, id := range e.IDs {
		ids[i] = id.String()
	}
	return fmt.Sprintf("%d members are named %s: %s", len(ids), e.Name, strings.Join(ids, ", "))
}

const (
	// resolveTimeout bounds the search for a name in the DHT.
	resolveTimeout = 5 * time.Second

	// maxCandidates bounds how many of those are tried who say in the DHT that
	// they have a name or a service.
	maxCandidates = 16
)

// Dial opens a stream to a service: "alice/web" for that of a member by name,
// "12D3Koo…/web" by peer ID, "/web" for the nearest member that offers it, or with
// [Spread] for each in turn; one that does not answer is passed over. It returns when the member has agreed. The node's own services can be dialed.
//
// With [p2p.DirectOnly] or [p2p.WaitDirect] the stream does not go through a relay.
// Where that is the only way the error wraps [p2p.ErrOnlyRelay] and says why.
//
// The stream outlives its connection, but on this machine: it goes on over another,
// and nothing is lost or repeated; see [Config].StreamLimit. With [p2p.Plain] it ends
// with its connection.
//
// The error wraps one of [ErrBadTarget], [ErrUnknownMember], [ErrNoProvider],
// [ErrNoService], [ErrNotPermitted], [ErrKind] and [ErrBusy], or is an [*AmbiguousError],
// or tells with a [*p2p.DialError] at which addresses the member did not
// answer. It is [p2p.ErrReset] if the stream was given up before it was agreed
// on, or so soon after that this node did not hear of it.
func (m *Mesh) Dial(ctx context.Context, target string) (*Conn, error) {
	t, err := ParseTarget(target)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return m.DialTarget(ctx, t)
}

// DialTarget is Dial for a target that was parsed before.
func (m *Mesh) DialTarget(ctx context.Context, t Target) (*Conn, error) {
	c, err := m.dialTarget(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("dial %v: %w", t, m.fault(ctx, err))
	}
	return c, nil
}

func (m *Mesh) dialTarget(ctx context.Context, t Target) (*Conn, error) {
	if t.ID == "" && t.Member == "" {
		return m.dialNearest(ctx, t.request())
	}
	id, err := m.resolve(p2p.AnyPath(ctx), t)
	if err != nil {
		return nil, err
	}
	return m.dialMember(ctx, id, t.request())
}

// DialContext is Dial for libraries that dial by host name, such as
// [net/http.Transport]: "web.alice.mesh:80" is alice's web, "web.mesh:80" the
// nearest. The network says the kind, which is [KindDatagram] for "udp", "udp4" and
// "udp6"; the port says nothing. Targets as for Dial are understood as well, and so is a ctx that wants no relay, as [p2p.DirectOnly] gives.
func (m *Mesh) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	t, err := ParseHost(addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	t.Kind = kindOf(network)
	c, err := m.DialTarget(ctx, t)
	if err != nil {
		return nil, err // not c, which is a nil *Conn in a net.Conn
	}
	return c, nil
}

// resolve finds out which peer a target means.
func (m *Mesh) resolve(ctx context.Context, t Target) (peer.ID, error) {
	if t.ID != "" {
		return t.ID, nil
	}
	ids := m.membersNamed(t.Member)
	if len(ids) == 0 {
		m.askAround(ctx, t.Member)
		ids = m.membersNamed(t.Member)
	}
	if len(ids) == 0 {
		m.searchName(ctx, t.Member)
		ids = m.membersNamed(t.Member)
	}
	switch {
	case len(ids) == 1:
		return ids[0], nil
	case len(ids) > 1:
		return "", &AmbiguousError{Name: t.Member, IDs: ids}
	}
	return "", fmt.Errorf("%w: %s", ErrUnknownMember, t.Member)
}

// askedAround is how many others are asked for who is there before the DHT is.
const askedAround = 4

// askAround asks some of those there are connections to who is there, until one
// knows a name. A node that has just come back has asked one only.
func (m *Mesh) askAround(ctx context.Context, name string) {
	conns := m.node.Connections()
	rand.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
	for _, c := range conns[:min(len(conns), askedAround)] {
		if err := m.fetchRoster(ctx, c.Peer); err != nil {
			m.log.Debug("fetch roster", "peer", c.Peer, "err", err)
		}
		if len(m.membersNamed(name)) > 0 || ctx.Err() != nil {
			return
		}
	}
}

// searchName connects to those who say in the DHT that they have a name. If
// they do, admission puts them into the roster; of those who don't answer it
// takes what they said of themselves when they were up.
func (m *Mesh) searchName(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	tried := 0
	for info := range m.table.Providers(ctx, m.nameKey(name)) {
		m.node.NoteSource(info.ID, p2p.SourceDHT, info.Addrs...)
		if err := m.node.Connect(ctx, info.ID, info.Addrs...); err != nil {
			m.log.Debug("connect to find a name", "peer", info.ID, "err", err)
			m.fetchMember(ctx, info.ID)
		}
		if tried++; tried == maxCandidates || len(m.membersNamed(name)) > 0 {
			return
		}
	}
}

// dialMember opens a stream to a service of one member. Where the connection there was
// turns out to be dead, it does so again on another.
func (m *Mesh) dialMember(ctx context.Context, id peer.ID, req request) (*Conn, error) {
	c, dead, err := m.dialOnce(ctx, id, req)
	if err != nil && dead && ctx.Err() == nil {
		m.log.Debug("dial again: the connection was dead", "peer", id, "err", err)
		c, _, err = m.dialOnce(ctx, id, req)
	}
	return c, err
}

// slowAnswer is how long a member may take to answer before it is looked whether the
// connection to it is dead, which else is noticed late: a router that has forgotten it
// drops what it gets.
const slowAnswer = time.Second

func (m *Mesh) dialOnce(ctx context.Context, id peer.ID, req request) (_ *Conn, dead bool, err error) {
	s, err := m.request(ctx, id, req)
	if err != nil {
		return nil, false, err
	}
	if s.Path() != p2p.PathUnix && s.Path() != p2p.PathSelf {
		slow := time.AfterFunc(slowAnswer, func() { m.node.Check(id) })
		defer slow.Stop()
	}
	if err := awaitStatus(ctx, s); err != nil {
		dead := s.Broken()
		s.Reset()
		return nil, dead, err
	}
	c, err := m.dialled(s, id, req.Service)
	return c, false, err
}

// dialled makes a Conn of a stream that was agreed on.
func (m *Mesh) dialled(s *p2p.Stream, id peer.ID, service string) (*Conn, error) {
	c := &Conn{Stream: s, mesh: m, service: service, dialed: true}
	if err := m.remember(c, id); err != nil {
		s.Reset()
		return nil, err
	}
	return c, nil
}

// request opens a stream and requests a service on it.
func (m *Mesh) request(ctx context.Context, id peer.ID, req request) (*p2p.Stream, error) {
	question, err := messageBytes(req)
	if err != nil {
		return nil, err
	}
	return m.reach(ctx, id, func() (*p2p.Stream, error) {
		s, err := m.node.Ask(ctx, id, streamProtocol, question)
		if errors.Is(err, p2p.ErrReset) && !isDial(err) {
			err = p2p.ErrReset
		}
		return s, err
	})
}

// awaitStatus waits for the answer to a request.
func awaitStatus(ctx context.Context, s *p2p.Stream) error {
	if s.Path() == p2p.PathUnix { // it is there
		return readStatus(s)
	}
	err := withDeadline(ctx, s, func() error { return readStatus(s) })
	if errors.Is(err, p2p.ErrReset) {
		return p2p.ErrReset // without the ends of the stream, which the target tells
	}
	return err
}

// withDeadline runs an exchange on a stream that ends with ctx, or after
// headerTimeout.
func withDeadline(ctx context.Context, s *p2p.Stream, exchange func() error) error {
	_ = s.SetDeadline(time.Now().Add(headerTimeout))
	stop := context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })
	err := exchange()
	if !stop() {
		return context.Cause(ctx)
	}
	return errors.Join(err, s.SetDeadline(time.Time{}))
}

// openStream opens a stream to a peer at the addresses known, and if that
// fails at those that the DHT knows.
func (m *Mesh) openStream(ctx context.Context, id peer.ID, proto string) (*p2p.Stream, error) {
	return m.reach(ctx, id, func() (*p2p.Stream, error) { return m.node.Dial(p2p.Plain(ctx), id, proto) })
}

// reach opens a stream by open, and if there is no connection to be had then again
// once the peer was found in the DHT.
func (m *Mesh) reach(ctx context.Context, id peer.ID, open func() (*p2p.Stream, error)) (*p2p.Stream, error) {
	s, err := open()
	if err == nil {
		return s, nil
	}
	if err := m.search(ctx, id, err); err != nil {
		return nil, err
	}
	return open()
}

func isDial(err error) bool {
	var dial *p2p.DialError
	return errors.As(err, &dial)
}

// worthSearching tells whether other addresses could help against a failure.
func (m *Mesh) worthSearching(ctx context.Context, err error) bool {
	var refused *p2p.RefusedError
	return ctx.Err() == nil && isDial(err) && !errors.As(err, &refused) && !errors.Is(err, p2p.ErrOnlyRelay)
}

func (m *Mesh) offers(service string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.listenerLocked(service) != nil
}
