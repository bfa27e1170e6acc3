package overlay

import (
	"context"
	"math/rand/v2"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p"
)

// localStart is how many of the members on this machine a node turns to. They know
// the others, so that a start costs the same however many there are.
const localStart = 6

// localConfig returns how the node meets other members on this machine, or nil.
func (m *Mesh) localConfig(c Config) *p2p.Local {
	if c.NoLocal {
		return nil
	}
	// A node that an admin has yet to let in is met by nobody before: who could give
	// it what it lacks has to be dialed by it.
	//
	// Who has an invite knows the mesh's ID, and nobody else on the machine does.
	return &p2p.Local{Dir: c.LocalDir, Secret: m.id[:], Users: c.LocalUsers, Only: c.LocalOnly, Hidden: m.isUnredeemed()}
}

// lanConfig returns how the node finds other members on the local network, or nil.
func (m *Mesh) lanConfig(c Config) *p2p.LAN {
	if c.NoLAN {
		return nil
	}
	return &p2p.LAN{Secret: m.id[:], Hidden: m.isUnredeemed()}
}

// runLAN connects to members that are found on the local network, while it has
// connections to few.
func (m *Mesh) runLAN() {
	for {
		found, changed := m.node.Nearby()
		rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
		for _, info := range found {
			if len(m.neighbours()) >= localStart {
				break
			}
			if m.node.PathTo(info.ID) == p2p.PathUnknown {
				m.meet(info.ID)
			}
		}
		select {
		case <-changed:
		case <-m.ctx.Done():
			return
		}
	}
}

// Local returns the directory in which the node meets other members on this
// machine, and what is wrong with it, if anything is: see [p2p.Node.Local].
func (m *Mesh) Local() (dir string, err error) { return m.node.Local() }

// LocalRemade returns how often the node's socket there had to be made again, since
// somebody had removed or replaced it.
func (m *Mesh) LocalRemade() int { return m.node.LocalRemade() }

// nearby returns some of the members that have a socket on this machine, in random
// order.
func (m *Mesh) nearby() []peer.AddrInfo {
	ids := m.node.LocalPeers()
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	ids = ids[:min(len(ids), localStart)]
	out := make([]peer.AddrInfo, len(ids))
	for i, id := range ids {
		out[i].ID = id
	}
	return out
}

// runLocal connects to members whose sockets appear on this machine, while it has
// connections to few.
func (m *Mesh) runLocal() {
	for {
		changed := m.node.LocalChanged()
		if len(m.neighbours()) < localStart {
			for _, info := range m.nearby() {
				if m.node.PathTo(info.ID) == p2p.PathUnknown {
					m.wg.Go(func() { m.meet(info.ID) })
				}
			}
		}
		select {
		case <-changed:
		case <-m.ctx.Done():
			return
		}
	}
}

// meet connects to a member on this machine or on the local network. Whether it is one,
// admission tells.
func (m *Mesh) meet(id peer.ID) {
	ctx, cancel := context.WithTimeout(m.ctx, enterTimeout)
	defer cancel()
	if err := m.node.Connect(ctx, id); err != nil && m.ctx.Err() == nil {
		m.log.Debug("meet one that is near", "peer", id, "err", err)
	}
}
