package overlay

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// enforceInterval is how often a node looks for members whose credential has
// ended. It is short beside the clock tolerance, and notices a clock that was set.
const enforceInterval = 5 * time.Second

func (m *Mesh) runEnforce() {
	tick := time.NewTicker(enforceInterval)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
			m.enforce()
			m.settleClaims() // what settled them before may count no more
		}
	}
}

// enforce puts out whoever is no member any more, as far as this node goes: it
// ends their streams and connections, and forgets them. If it is this node that
// was put out, all of that ends.
func (m *Mesh) enforce() {
	m.mu.Lock()
	own := m.credential
	out := map[peer.ID]error{}
	for id, e := range m.roster.entries {
		if err := m.standing(&e.member, e.credential, time.Now()); err != nil {
			out[id] = err
			delete(m.roster.entries, id)
		}
	}
	if len(out) > 0 {
		m.changeLocked()
	}
	cut := m.takeConnsLocked(func(c *Conn) error { return out[c.peer.ID] })
	m.mu.Unlock()

	if err := m.revoked.check(own); err != nil {
		if m.isLeaving() {
			err = ErrLeft
		}
		m.end(err)
		return
	}
	cut.abort()
	for id, err := range out {
		m.log.Info("member put out", "peer", id, "err", err)
	}
	if len(out) > 0 {
		m.wg.Go(func() { m.showOut(slices.Collect(maps.Keys(out))) })
	}
}

// farewell is how long those who are put out keep their connections, on which
// they are not served any more, so that they hear why.
const farewell = 200 * time.Millisecond

func (m *Mesh) showOut(out []peer.ID) {
	m.pause(farewell)
	for _, id := range out {
		if _, ok := m.Member(id); !ok { // and has not come in again
			m.disconnect(id)
		}
	}
}

// disconnect closes what connections there are to a peer.
func (m *Mesh) disconnect(id peer.ID) {
	if err := m.node.Disconnect(id); err != nil && m.ctx.Err() == nil {
		m.log.Warn("disconnect", "peer", id, "err", err)
	}
}

// standing returns why the holder of a verified credential is no member now, or
// nil.
func (m *Mesh) standing(member *credential.Member, c *credential.Credential, now time.Time) error {
	if late := now.Sub(member.NotAfter); late > credential.ClockTolerance {
		return fmt.Errorf("%w %s", credential.ErrExpired, member.NotAfter.Format(time.RFC3339))
	}
	return m.revoked.check(c)
}

// end makes the mesh useless for a reason: this node is out.
func (m *Mesh) end(reason error) {
	m.mu.Lock()
	if m.closed || m.ended != nil {
		m.mu.Unlock()
		return
	}
	m.ended = reason
	services := m.services
	m.services = map[string]*Listener{}
	cut := m.takeConnsLocked(func(*Conn) error { return reason })
	m.changeLocked()
	m.mu.Unlock()

	m.log.Info("this node is out of the mesh", "err", reason)
	cut.abort()
	for _, l := range services {
		l.Close()
	}
	for _, id := range m.neighbours() {
		m.disconnect(id)
	}
	close(m.done)
	m.stop()
}

// Done is closed when this node is out of the mesh: revoked, or gone by itself.
// Err says why. What is left to do is Close.
func (m *Mesh) Done() <-chan struct{} { return m.done }

// Err returns nil while the node is in the mesh, and then why it is not:
// [credential.ErrRevoked], [ErrLeft] or [ErrClosed].
func (m *Mesh) Err() error { return m.alive() }

// ErrLeft says that this node gave up its membership.
var ErrLeft = errors.New("left the mesh")
