package overlay

import (
	"cmp"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

const (
	// presenceInterval is how often a member says that it is up, where there are
	// few.
	presenceInterval = 60 * time.Second

	// presenceShare is what each member adds to the interval once that is longer,
	// so that a node hears one statement in so long however many there are.
	presenceShare = 3 * time.Second

	// presenceSpacing is what each member adds to the least time between two
	// statements of one node, which makes one when others come. While a mesh of many
	// starts and all meet all, a node so hears ten statements a second, and not as
	// many as there are meetings.
	presenceSpacing = 100 * time.Millisecond

	// presenceLongest is the interval with 300 members and more. It bounds for how
	// long one that was killed may be taken to be up.
	presenceLongest = 15 * time.Minute

	// presenceMemory is for how long a member that was up counts. It is longer than
	// any member is taken to be up for, so that nodes that differ in who is up
	// agree, nearly, on how many count.
	presenceMemory = time.Hour

	// maxRoster bounds the members a node remembers. Beyond it the one without
	// news for longest is forgotten.
	maxRoster = 4096
)

// A roster is what this node believes about who is in the mesh. It does no I/O
// and keeps no clock: time comes in with each call. The Mesh's lock guards it.
type roster struct {
	entries map[peer.ID]*entry
}

type entry struct {
	member     credential.Member
	credential *credential.Credential
	revoked    credential.Hash // the digest of what it knew to be revoked, when it was last asked
	presence   []byte          // the newest presence statement, encoded; nil if none
	seq        uint64          // of that statement
	left       bool            // it said that it was going
	learned    time.Time       // when it was first known to this node
	heard      time.Time       // when it last said that it was up, or a connection to it ended
	connected  bool
	told       bool // it was told of all claims since it connected, if it is an admin
	silent     bool // it did not answer when dialed since
}

func newRoster() *roster { return &roster{entries: map[peer.ID]*entry{}} }

// learn takes in a verified credential. Of two the later one counts.
func (r *roster) learn(m credential.Member, c *credential.Credential, now time.Time) *entry {
	e := r.entries[m.ID]
	if e == nil {
		r.makeRoom()
		e = &entry{member: m, credential: c, learned: now}
		r.entries[m.ID] = e
	}
	if later(m, e.member) {
		e.member, e.credential = m, c
	}
	return e
}

// later tells whether a credential replaces another. One that came from an
// invite is renewed within the second in which it was made, and ends later.
func later(a, b credential.Member) bool {
	return cmp.Or(a.NotBefore.Compare(b.NotBefore), a.NotAfter.Compare(b.NotAfter)) > 0
}

func (r *roster) makeRoom() {
	if len(r.entries) < maxRoster {
		return
	}
	var oldest *entry
	for _, e := range r.entries {
		if !e.connected && (oldest == nil || e.news().Before(oldest.news())) {
			oldest = e
		}
	}
	if oldest != nil {
		delete(r.entries, oldest.member.ID)
	}
}

// news returns when there was last something new about a member.
func (e *entry) news() time.Time {
	if e.learned.After(e.heard) {
		return e.learned
	}
	return e.heard
}

// announce takes in a member's verified statement about itself, and tells
// whether it is news.
func (r *roster) announce(m credential.Member, c *credential.Credential, p presence, raw []byte, now time.Time) bool {
	e := r.learn(m, c, now)
	if p.Seq <= e.seq {
		return false
	}
	e.seq, e.presence, e.left = p.Seq, raw, p.Leaving
	e.heard, e.silent = now, false
	return true
}

// connected takes in that a connection to a member is there, or is gone.
func (r *roster) connected(id peer.ID, is bool, now time.Time) {
	e := r.entries[id]
	if e == nil || e.connected == is {
		return
	}
	e.connected, e.heard, e.told = is, now, false
	if is {
		e.silent, e.left = false, false
	}
}

// unreachable takes in that a member did not answer.
func (r *roster) unreachable(id peer.ID) {
	if e := r.entries[id]; e != nil && !e.connected {
		e.silent = true
	}
}

// size returns how many members there are, this node included, that may say that
// they are up.
func (r *roster) size(now time.Time) int {
	members := 1
	for _, e := range r.entries {
		if e.connected || e.presence != nil && !e.left && now.Sub(e.heard) < presenceMemory {
			members++
		}
	}
	return members
}

// interval returns how often a member says that it is up in a mesh of this size.
// Nodes that see another size have another interval; the window allows for twice
// the members.
func (r *roster) interval(now time.Time) time.Duration {
	return min(max(presenceInterval, time.Duration(r.size(now))*presenceShare), presenceLongest)
}

// spacing returns the least time between two statements of one node in a mesh of
// this size.
func (r *roster) spacing(now time.Time) time.Duration {
	return min(max(presenceSettle, time.Duration(r.size(now))*presenceSpacing), presenceInterval)
}

// window returns for how long a member counts as up after its last statement. It
// leaves room for two lost statements and for jitter, or for an interval of twice
// that here.
func (r *roster) window(now time.Time) time.Duration { return r.interval(now) * 10 / 3 }

// up tells whether a member counts as up, by the roster's window.
func (e *entry) up(now time.Time, window time.Duration) bool {
	return e.connected || !e.left && !e.silent && e.presence != nil && now.Sub(e.heard) < window
}

// named returns the IDs of the members of a name: of those that are up, or of
// all where none is.
func (r *roster) named(name string, now time.Time) []peer.ID {
	var up, all []peer.ID
	window := r.window(now)
	for id, e := range r.entries {
		if e.member.Name != name {
			continue
		}
		all = append(all, id)
		if e.up(now, window) {
			up = append(up, id)
		}
	}
	if len(up) > 0 {
		all = up
	}
	slices.Sort(all)
	return all
}

// sorted returns the entries by name, then by ID.
func (r *roster) sorted() []*entry {
	out := make([]*entry, 0, len(r.entries))
	for _, e := range r.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.member.Name, b.member.Name), cmp.Compare(a.member.ID, b.member.ID))
	})
	return out
}
