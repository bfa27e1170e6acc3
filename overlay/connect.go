package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/p2pnode/p2pnode/dht"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
	"golang.org/x/sync/errgroup"
)

const (
	// enterTimeout bounds how long a start waits for those it knew. A member
	// that is up answers within a second or not at all.
	enterTimeout = 10 * time.Second

	// enterWidth is how many are dialed at once.
	enterWidth = 8

	// retryFirst and retryLast bound the wait between two tries to find the
	// mesh again.
	retryFirst = time.Second
	retryLast  = 30 * time.Second

	// reviveSpread is over how long members whose connection ended are dialed
	// again, so that those who lost the same one don't do it all at once.
	reviveSpread = 500 * time.Millisecond

	// saveDelay gathers what is learned of peers in a burst into one write. A
	// crash loses no more than that.
	saveDelay = 100 * time.Millisecond
)

// enter connects to those to start from and to those known from before, and
// waits until one has let the node in and has told who else is there. If none
// does the error is ErrNoMemberReached, unless this node was refused for what it
// is, which trying again can't help.
func (m *Mesh) enter(caller context.Context) error {
	ctx, cancel := context.WithTimeout(caller, enterTimeout)
	defer cancel()
	first, tried, err := m.connectAny(ctx, slices.Concat(m.start, m.known.infos()))
	defer func() { m.wg.Go(func() { m.finishCatchUp(tried) }) }()
	switch {
	case first != "":
	case caller.Err() != nil:
		return context.Cause(caller)
	case wasRefused(err):
		return explain(err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNoMemberReached, err)
	default:
		return ErrNoMemberReached
	}
	if m.isUnredeemed() { // by one that let it in and gave it nothing
		return credential.ErrUnredeemed
	}
	m.note(first)
	if err := m.awaitTable(ctx); err != nil {
		return fmt.Errorf("enter: %w", err)
	}
	m.hearFrom(ctx, first)
	if err := m.alive(); err != nil {
		return err // it was revoked in the meantime
	}
	if err := m.fetchRoster(ctx, first); err != nil {
		m.log.Warn("fetch roster", "peer", first, "err", err)
	}
	return m.known.save()
}

// awaitTable waits until there is somebody in the DHT to ask. Whoever let this
// node in may go before that.
func (m *Mesh) awaitTable(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m.wg.Go(func() {
		for conns := range m.node.Watch(ctx) {
			if len(conns) == 0 {
				cancel(ErrNoMemberReached)
			}
		}
	})
	return m.table.Ready(ctx)
}

// wasRefused tells whether a peer that was reached did not let this node in, for a
// reason that stays.
func wasRefused(err error) bool {
	return refusalWhere(err, func(r *p2p.RefusedError) bool { return !r.Here && !errors.Is(r, p2p.RefusedBusy) }) != nil
}

// refusalWhere returns a refusal for which ok is true, of all that an error has in
// it: several peers may have been tried.
func refusalWhere(err error, ok func(*p2p.RefusedError) bool) *p2p.RefusedError {
	if r, is := err.(*p2p.RefusedError); is && ok(r) {
		return r
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return refusalWhere(e.Unwrap(), ok)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if r := refusalWhere(one, ok); r != nil {
				return r
			}
		}
	}
	return nil
}

// wasRevoked tells whether a peer that was reached says that this node is revoked.
// It may lie, so that counts only where nobody else is to be reached.
func wasRevoked(err error) bool {
	return wasRefused(err) && errors.Is(explain(err), credential.ErrRevoked)
}

// connectAny dials peers until one has let the node in. Dials that go on then
// are left to end by themselves, and may give further connections; the channel is
// closed when all have.
func (m *Mesh) connectAny(ctx context.Context, peers []peer.AddrInfo) (_ peer.ID, tried <-chan struct{}, _ error) {
	type result struct {
		id  peer.ID
		err error
	}
	results := make(chan result, len(peers))
	all := make(chan struct{})
	m.wg.Go(func() {
		defer close(all)
		var g errgroup.Group
		g.SetLimit(enterWidth)
		for _, info := range peers {
			if info.ID == m.node.ID() {
				results <- result{"", nil}
				continue
			}
			g.Go(func() error {
				ctx, cancel := context.WithTimeout(m.ctx, enterTimeout)
				defer cancel()
				results <- result{info.ID, m.node.Connect(ctx, info.ID, info.Addrs...)}
				return nil
			})
		}
		_ = g.Wait()
	})
	var errs []error
	for range peers {
		select {
		case r := <-results:
			if r.err == nil && r.id != "" {
				return r.id, all, nil
			}
			if r.err != nil {
				errs = append(errs, r.err)
			}
		case <-ctx.Done():
			return "", all, errors.Join(append(errs, context.Cause(ctx))...)
		}
	}
	return "", all, errors.Join(errs...)
}

// connect makes sure that there is a connection to a member.
func (m *Mesh) connect(ctx context.Context, id peer.ID) error {
	err := m.node.Connect(ctx, id)
	if err == nil {
		return nil
	}
	return m.search(ctx, id, err)
}

// search connects to a peer at the addresses that the DHT knows, after those
// known here have failed.
func (m *Mesh) search(ctx context.Context, id peer.ID, failed error) error {
	if !m.worthSearching(ctx, failed) {
		return explain(failed)
	}
	addrs, err := m.table.FindPeer(ctx, id)
	if errors.Is(err, dht.ErrNotFound) {
		// The table may have had it at an address where it is no more, and has
		// found that out now. Until then it does not hear of any other.
		addrs, err = m.table.FindPeer(ctx, id)
	}
	if _, known := m.Member(id); err != nil && !known {
		err = fmt.Errorf("%w: %w", ErrUnknownMember, err)
	}
	if err != nil {
		err = fmt.Errorf("%w; %w", failed, err)
	} else {
		err = explain(m.node.Connect(ctx, id, addrs...))
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		m.markUnreachable(id)
	}
	return err
}

// explain puts the error that a refusal code stands for into err's chain.
func explain(err error) error {
	meaning := meaningOf(err)
	if meaning == nil || errors.Is(err, meaning) {
		return err
	}
	return fmt.Errorf("%w: %w", meaning, err)
}

// meaningOf returns the error for the first refusal in err that has one.
func meaningOf(err error) error {
	var code p2p.Refusal
	means := func(r *p2p.RefusedError) bool { return errors.As(r, &code) && refusalMeaning[code] != nil }
	if refusalWhere(err, means) == nil && !errors.As(err, &code) {
		return nil
	}
	return refusalMeaning[code]
}

// neighbours returns the peers that there are connections to, each once.
func (m *Mesh) neighbours() []peer.ID {
	var out []peer.ID
	for _, c := range m.node.Connections() { // ordered by peer
		out = append(out, c.Peer)
	}
	return slices.Compact(out)
}

// note takes in that there is a connection to a peer, and where the peer is.
func (m *Mesh) note(id peer.ID) {
	now := time.Now()
	m.mu.Lock()
	m.roster.connected(id, true, now)
	e := m.roster.entries[id]
	admin := e != nil && e.member.Roles.Has(credential.RoleAdmin)
	m.changeLocked()
	m.mu.Unlock()
	if e == nil { // it was put out while it connected
		m.wg.Go(func() { m.showOut([]peer.ID{id}) })
		return
	}
	m.wg.Go(func() { m.hearFrom(m.ctx, id) })
	if admin {
		select {
		case m.renewNow <- struct{}{}:
		default: // it is about to look
		}
	}
	m.known.see(id, m.node.KnownAddrs(id), now)
}

// runConnections follows the node's connections: who is there, where they say
// they are, and who is gone.
func (m *Mesh) runConnections() {
	sub, err := m.node.Host().EventBus().Subscribe(
		[]any{new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerConnectednessChanged)},
		eventbus.BufSize(1024))
	if err != nil {
		m.log.Error("follow connections", "err", err)
		return
	}
	defer sub.Close()
	for _, o := range m.Members() { // what came before the subscription
		if !o.Self {
			m.follow(o.ID)
		}
	}
	save := time.After(saveDelay)
	for {
		select {
		case <-m.ctx.Done():
			return
		case e, ok := <-sub.Out():
			if !ok {
				return
			}
			m.handleEvent(e)
			if save == nil {
				save = time.After(saveDelay)
			}
		case <-save:
			save = nil
			if err := m.known.save(); err != nil {
				m.log.Warn("save known peers", "err", err)
			}
		}
	}
}

func (m *Mesh) handleEvent(e any) {
	switch e := e.(type) {
	case event.EvtPeerIdentificationCompleted:
		m.follow(e.Peer)
	case event.EvtPeerConnectednessChanged:
		m.follow(e.Peer)
	}
}

// follow takes in whether there is a connection to a peer now, whatever event
// says that something has changed: those of two kinds overtake each other.
func (m *Mesh) follow(id peer.ID) {
	if m.node.PathTo(id) == p2p.PathUnknown {
		m.lost(id)
		return
	}
	m.note(id)
}

// lost takes in that the last connection to a peer ended, and finds out
// whether the peer is gone too.
func (m *Mesh) lost(id peer.ID) {
	m.mu.Lock()
	e := m.roster.entries[id]
	unexpected := e != nil && e.connected && !e.left
	m.roster.connected(id, false, time.Now())
	m.changeLocked()
	m.mu.Unlock()
	if !unexpected {
		return
	}
	m.wg.Go(func() {
		select {
		case <-time.After(rand.N(reviveSpread)):
		case <-m.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(m.ctx, enterTimeout)
		defer cancel()
		if err := m.node.Connect(ctx, id); err != nil && m.ctx.Err() == nil {
			m.log.Info("member gone", "peer", id, "err", err)
			m.markUnreachable(id)
		}
	})
}

// runReconnect looks for those who are gone: for all of them, and soon, when
// this node is alone, and for a few at a time otherwise, so that a mesh that was
// cut in two becomes one again.
func (m *Mesh) runReconnect() {
	wait := retryFirst
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(wait*3/4 + rand.N(wait/2)):
		}
		gone := m.gone()
		wait = min(2*wait, retryLast)
		if len(m.node.Connections()) > 0 {
			wait = retryLast
			gone = gone[:min(len(gone), reviveAtOnce)]
		}
		if len(gone) == 0 {
			continue
		}
		id, _, err := m.connectAny(m.ctx, gone)
		if id == "" {
			m.log.Debug("look for members", "tried", len(gone), "err", err)
			if wasRevoked(err) && len(m.node.Connections()) == 0 {
				m.end(credential.ErrRevoked)
			}
			continue
		}
		m.log.Info("member found again", "peer", id)
		if err := m.fetchRoster(m.ctx, id); err != nil {
			m.log.Debug("fetch roster", "peer", id, "err", err)
		}
	}
}

// reviveAtOnce is how many that are gone a node looks for at a time.
const reviveAtOnce = 3

// gone returns the members known from connections or named by the caller that
// are not up now and did not say that they were going, in random order.
func (m *Mesh) gone() []peer.AddrInfo {
	now := time.Now()
	peers := slices.Concat(m.start, m.known.infos())
	m.mu.Lock()
	defer m.mu.Unlock()
	peers = slices.DeleteFunc(peers, func(p peer.AddrInfo) bool {
		e := m.roster.entries[p.ID]
		return e != nil && (e.up(now) || e.left)
	})
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	return peers
}
