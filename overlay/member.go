package overlay

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// A Member is a node that holds a credential of the mesh, as this node sees it.
type Member struct {
	ID      peer.ID
	Name    string // from its credential; others may have it too
	Roles   credential.Roles
	Expires time.Time // when its credential ends

	Admitted   time.Time // when it came in
	NameChosen bool      // it chose its name itself, so that the name proves nothing
	Services   []string  // the only ones that it may use; empty is no restriction

	Self  bool
	Up    bool          // connected, or heard of lately, in minutes that grow with the mesh, and not found gone since
	Path  p2p.Path      // to it, PathUnknown if there is no connection
	Relay peer.ID       // through which, if Path is a relay's
	RTT   time.Duration // to it as last measured, 0 if never
	Seen  time.Time     // when it was last known to be up, if not connected
}

// Self returns this node as a member.
func (m *Mesh) Self() Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.selfLocked()
}

func (m *Mesh) selfLocked() Member {
	self := named(m.self)
	self.Self, self.Up, self.Path = true, true, p2p.PathSelf
	return self
}

// named returns what a credential says of a member.
func named(m credential.Member) Member {
	return Member{
		ID: m.ID, Name: m.Name, Roles: m.Roles, Expires: m.NotAfter,
		Admitted: m.Admitted, NameChosen: m.NameChosen, Services: m.Services,
	}
}

// Members returns all members that this node knows of, itself included, by
// name.
func (m *Mesh) Members() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []Member{m.selfLocked()}
	now := time.Now()
	window := m.roster.window(now)
	for _, e := range m.roster.sorted() {
		out = append(out, m.viewLocked(e, now, window))
	}
	slices.SortStableFunc(out, func(a, b Member) int { return compareNames(a, b) })
	return out
}

// Member returns the member with a peer ID, if it is known.
func (m *Mesh) Member(id peer.ID) (Member, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.memberLocked(id)
}

func (m *Mesh) memberLocked(id peer.ID) (Member, bool) {
	if id == m.self.ID {
		return m.selfLocked(), true
	}
	e := m.roster.entries[id]
	if e == nil {
		return Member{}, false
	}
	now := time.Now()
	return m.viewLocked(e, now, m.roster.window(now)), true
}

func (m *Mesh) viewLocked(e *entry, now time.Time, window time.Duration) Member {
	out := named(e.member)
	out.Up, out.Seen = e.up(now, window), e.heard
	out.Path, out.Relay, out.RTT = m.node.PathTo(out.ID), m.node.RelayTo(out.ID), m.node.RTT(out.ID)
	return out
}

// namedLocked is memberLocked without how things stand with the member, which takes
// longer to find out and is of no use to most streams.
func (m *Mesh) namedLocked(id peer.ID) (Member, bool) {
	if id == m.self.ID {
		return m.selfLocked(), true
	}
	e := m.roster.entries[id]
	if e == nil {
		return Member{}, false
	}
	return named(e.member), true
}

func compareNames(a, b Member) int {
	if a.Name != b.Name {
		if a.Name < b.Name {
			return -1
		}
		return 1
	}
	return 0
}

func (m *Mesh) membersNamed(name string) []peer.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := m.roster.named(name, time.Now())
	if name == m.self.Name {
		ids = append(ids, m.self.ID)
	}
	return ids
}

func (m *Mesh) nameOf(id peer.ID) string {
	if member, ok := m.Member(id); ok {
		return member.Name
	}
	return id.String()
}

// Watch yields the members as they are, then again after each change, until
// ctx ends or the mesh is closed. A slow reader skips to the newest.
func (m *Mesh) Watch(ctx context.Context) iter.Seq[[]Member] {
	return func(yield func([]Member) bool) {
		for {
			m.mu.Lock()
			changed := m.changed
			m.mu.Unlock()
			if !yield(m.Members()) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-m.ctx.Done():
				return
			}
		}
	}
}

// changeLocked wakes those who watch.
func (m *Mesh) changeLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
