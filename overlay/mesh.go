package overlay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/dht"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// ErrClosed is what methods return after Close. It is [net.ErrClosed].
var ErrClosed = fmt.Errorf("mesh: %w", net.ErrClosed)

// A Mesh is this node's membership in a mesh, and its way to the other members.
// Its methods may be called from several goroutines at once.
type Mesh struct {
	// Set by start and never changed.
	id        credential.MeshID
	dir       string // empty if the node keeps nothing
	keys      *identity
	store     store
	revoked   *revoked
	claims    *claims
	caughtUp  *catchUp
	log       *slog.Logger
	admission *admission
	node      *p2p.Node
	table     *dht.DHT
	gossip    *gossip
	known     *knownPeers
	paths     *pathLog
	name      *dht.Publication
	start     []peer.AddrInfo // members to start from that the caller named
	renewNow  chan struct{}   // asks runRenew to try again
	exchanges chan struct{}   // bounds those of the roster
	nearest   nearest
	redeeming keyedMutex    // by invite
	adopting  sync.Mutex    // held while a credential is replaced
	keeping   sync.Mutex    // held while it is read or changed what the program keeps
	done      chan struct{} // closed when this node is out

	ctx       context.Context // the mesh's lifetime
	stop      context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
	closeErr  error

	mu         sync.Mutex // guards the fields below; never held while dialing or writing
	self       credential.Member
	credential *credential.Credential // which says so
	seq        uint64                 // of the last presence statement
	roster     *roster
	unredeemed bool // it is only good to be redeemed
	services   map[string]*Listener
	conns      map[*Conn]struct{}
	changed    chan struct{} // closed and replaced when a member changes
	leaving    bool          // this node is about to revoke itself
	ended      error         // why this node is out
	closed     bool
}

// Open resumes the membership that c.Dir holds, or founds a mesh if it holds
// none. Without a Dir it founds a mesh that lives as long as this node or any
// that joins it.
//
// It returns when the node can be used: it listens, and it has tried those it
// knew. That nobody answered is no error; it goes on trying.
func Open(ctx context.Context, c Config) (*Mesh, error) {
	return open(ctx, c, openIdentity, nil)
}

// Join enters the mesh of an invite, or resumes if c.Dir holds a membership of
// that mesh already. It returns once a member has let the node in.
//
// The error wraps [ErrNoMemberReached] if no member answered, or one of package
// credential's errors if the invite is not good, or [ErrOtherMesh].
func Join(ctx context.Context, invite string, c Config) (*Mesh, error) {
	inv, err := credential.ParseInvite(invite)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	join := func(s store, c Config) (*identity, error) { return joinIdentity(s, c, inv) }
	return open(ctx, c, join, inv)
}

// ErrNoMemberReached says that none of the members to start from answered.
var ErrNoMemberReached = errors.New("no member reached")

// A finder returns the identity that a store holds, or makes one.
type finder func(store, Config) (*identity, error)

// open makes a mesh of the identity that find returns. Who joins by an invite
// must reach a member, to be let in.
func open(ctx context.Context, c Config, find finder, invite *credential.Invite) (_ *Mesh, err error) {
	c, start, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	m := &Mesh{
		dir: c.Dir, log: c.Logger, roster: newRoster(), services: map[string]*Listener{}, conns: map[*Conn]struct{}{},
		changed: make(chan struct{}), renewNow: make(chan struct{}, 1), exchanges: make(chan struct{}, maxExchanges),
		caughtUp: newCatchUp(), paths: newPathLog(), done: make(chan struct{}),
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if err := m.openState(c, find); err != nil {
		return nil, err
	}
	if err := m.startNode(c); err != nil {
		return nil, err
	}
	if m.start = start; invite != nil {
		m.start = append(m.start, invite.Start()...)
	}
	m.noteStart(m.start)
	err = m.enter(ctx)
	alone := errors.Is(err, ErrNoMemberReached) && invite == nil
	if err != nil && !alone {
		return nil, err
	}
	if err := m.node.Appear(); err != nil {
		m.log.Warn("appear on this machine", "err", err)
	}
	m.startLoops()
	if alone {
		m.log.Info("nobody else is there", "err", err)
	} else {
		m.awaitName(ctx)
	}
	return m, nil
}

// nameTimeout is how long a start waits for its name to be in the DHT. With
// dead nodes in the table it takes longer, and others hear of it by gossip.
const nameTimeout = time.Second

// awaitName waits until all members can find this node by its name.
func (m *Mesh) awaitName(ctx context.Context) {
	select {
	case <-m.name.Done():
	case <-time.After(nameTimeout):
	case <-ctx.Done():
	}
}

func (m *Mesh) openState(c Config, find finder) error {
	m.store = newMemoryStore()
	if c.Dir != "" {
		file, err := openStore(c.Dir)
		if err != nil {
			return err
		}
		m.store = file
	}
	keys, err := find(m.store, c)
	if err != nil {
		return err
	}
	m.keys, m.id, m.self, m.credential, m.unredeemed = keys, keys.mesh, keys.member, keys.credential, keys.unredeemed
	if m.revoked, err = loadRevoked(m.store, m.id); err != nil {
		return fmt.Errorf("%s: %w", c.Dir, err)
	}
	if m.claims, err = loadClaims(m.store, time.Now()); err != nil {
		return fmt.Errorf("%s: %w", c.Dir, err)
	}
	if err := m.revoked.check(m.credential); err != nil {
		return fmt.Errorf("membership in %s: %w", c.Dir, err)
	}
	if file, ok := m.store.(*fileStore); ok {
		return file.own(m.self.Name)
	}
	return nil
}

// startNode starts to listen, and to answer what members ask. Until all of it
// is there, members that connect wait in admission.
func (m *Mesh) startNode(c Config) error {
	m.admission = newAdmission(m, m.credential.Marshal())
	defer close(m.admission.ready)
	port, err := loadPort(m.store)
	if err != nil {
		return err
	}
	m.node, err = p2p.New(p2p.Config{
		Key: m.keys.key, Listen: c.Listen, Port: port, Admission: m.admission, Local: m.localConfig(c),
		LAN: m.lanConfig(c), NoPortMapping: c.NoPortMapping, Certificate: c.Certificate, Proxy: c.Proxy, Relay: c.Relay, OnPath: m.paths.put,
		StreamLimit: c.StreamLimit, StreamMemory: c.StreamMemory, DialTimeout: c.DialTimeout, Logger: c.Logger, Metrics: c.Metrics,
	})
	if err != nil {
		return err
	}
	if err := savePort(m.store, m.node.Port()); err != nil {
		return err
	}
	m.known, err = loadKnownPeers(m.store)
	if err != nil {
		return err
	}
	m.noteStart(m.known.infos())
	m.table, err = dht.New(m.node, dht.Config{
		Known: m.known.infos, Logger: c.Logger,
		Records: map[string]dht.Validator{memberRecords: memberValidator{m.id, m.revoked}},
	})
	if err != nil {
		return err
	}
	if m.gossip, err = newGossip(m.ctx, m.node, m.id, m.receivePresence, m.receiveRevocation); err != nil {
		return err
	}
	return m.serve()
}

// noteStart takes in that addresses are known from before this node had anybody to ask.
func (m *Mesh) noteStart(infos []peer.AddrInfo) {
	for _, info := range infos {
		m.node.NoteSource(info.ID, p2p.SourceStart, info.Addrs...)
	}
}

// serve answers what members ask of this node.
func (m *Mesh) serve() error {
	for proto, handle := range map[string]func(*p2p.Listener){
		streamProtocol:      m.serveStreams,
		servicesProtocol:    m.each(m.afterCatchUp(m.serveServices)),
		rosterProtocol:      m.each(m.afterCatchUp(m.serveRoster)),
		renewProtocol:       m.each(m.afterCatchUp(m.serveRenew)),
		redeemProtocol:      m.each(m.afterCatchUp(m.serveRedeem)),
		revocationsProtocol: m.each(m.serveRevocations),
		claimsProtocol:      m.each(m.serveClaims),
	} {
		l, err := m.node.Listen(proto)
		if err != nil {
			return err
		}
		m.wg.Go(func() { handle(l) })
	}
	return nil
}

func (m *Mesh) startLoops() {
	m.wg.Go(m.runConnections)
	m.wg.Go(m.runPaths)
	m.wg.Go(m.runPresence)
	m.wg.Go(m.runRefresh)
	m.wg.Go(m.runReconnect)
	m.wg.Go(m.runLocal)
	m.wg.Go(m.runLAN)
	m.wg.Go(m.runRenew)
	m.wg.Go(m.runEnforce)
	// Until the table is closed:
	m.name = m.table.Provide(m.nameKey(m.Self().Name))
	m.table.Publish(memberKey(m.node.ID()), m.ownPresence)
}

func (m *Mesh) markUnreachable(id peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.unreachable(id)
	m.changeLocked()
}

// ID returns the mesh's ID, its root public key.
func (m *Mesh) ID() credential.MeshID { return m.id }

// Addrs returns the addresses at which this node may be reached, without its
// peer ID.
func (m *Mesh) Addrs() []multiaddr.Multiaddr { return m.node.Addrs() }

// Node returns the node under the mesh, for connections and libp2p protocols.
// Closing it is the mesh's business.
func (m *Mesh) Node() *p2p.Node { return m.node }

// Ping measures one round trip to a member, by name or by peer ID, and tells
// the path it took. With [p2p.DirectOnly] it takes none through a relay.
func (m *Mesh) Ping(ctx context.Context, member string) (time.Duration, p2p.Path, error) {
	rtt, path, err := m.ping(ctx, member)
	if err != nil {
		return 0, p2p.PathUnknown, fmt.Errorf("ping %s: %w", member, m.fault(ctx, err))
	}
	return rtt, path, nil
}

func (m *Mesh) ping(ctx context.Context, member string) (time.Duration, p2p.Path, error) {
	id, err := m.find(p2p.AnyPath(ctx), member)
	if err != nil {
		return 0, 0, err
	}
	if err := m.connect(ctx, id); err != nil {
		return 0, 0, err
	}
	rtt, err := m.node.Ping(ctx, id)
	return rtt, m.node.PathTo(id), err
}

// The keys under which names and services are found in the DHT. They name the
// mesh, so that one process may be in several.
func (m *Mesh) nameKey(name string) string       { return m.id.String() + "/name/" + name }
func (m *Mesh) serviceKey(service string) string { return m.id.String() + "/service/" + service }

// fault returns why a call failed: err, unless that only follows from the mesh
// being closed or ctx ending.
func (m *Mesh) fault(ctx context.Context, err error) error {
	if closed := m.alive(); closed != nil {
		return closed
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return cause
	}
	return err
}

// alive returns ErrClosed once Close has begun, and before that why this node is
// out of the mesh, if it is.
func (m *Mesh) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.aliveLocked()
}

func (m *Mesh) aliveLocked() error {
	switch {
	case m.ended != nil:
		return m.ended
	case m.closed:
		return ErrClosed
	}
	return nil
}

func (m *Mesh) isUnredeemed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unredeemed
}

func (m *Mesh) isLeaving() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leaving
}

// Close tells the others that this node is going, and waits until the mesh's
// goroutines are gone. It may be called more than once and at any time; all
// streams end.
func (m *Mesh) Close() error {
	m.closeOnce.Do(func() {
		m.mu.Lock()
		m.closed = true
		out := m.ended != nil
		services := m.services
		m.services = nil
		m.mu.Unlock()
		if !out {
			close(m.done)
		}
		for _, l := range services {
			l.Close()
		}
		m.closeErr = m.closeParts()
	})
	return m.closeErr
}

// closeParts closes what there is; open may have stopped half-way.
func (m *Mesh) closeParts() error {
	var errs []error
	if m.gossip != nil {
		errs = append(errs, m.sayGoodbye(), m.gossip.Close())
	}
	m.stop()
	if m.known != nil {
		errs = append(errs, m.known.save())
	}
	if m.table != nil {
		errs = append(errs, m.table.Close())
	}
	if m.node != nil {
		errs = append(errs, m.node.Close())
	}
	m.wg.Wait()
	if m.store != nil {
		errs = append(errs, m.store.Close())
	}
	return errors.Join(errs...)
}
