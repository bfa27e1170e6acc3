package unixsock

import (
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxNames bounds how many names of a directory are looked at and how many
	// sockets are kept in mind: many times what one machine runs, and little
	// work for whoever meets a directory that somebody filled.
	maxNames = 4096

	// maxSockets bounds how many sockets of one peer are kept in mind. One is
	// usual; the others are of processes that were killed.
	maxSockets = 8
)

// entries is what is known of the sockets in a directory, whose they are and
// how old. It does no I/O.
type entries struct {
	peers map[peer.ID][]entry // newest first, none empty
	owner map[string]peer.ID  // of each name in peers
}

// An entry is a socket that was there when last looked at. Whether it lives,
// only dialing it tells.
type entry struct {
	name string
	made time.Time
}

func newEntries() entries {
	return entries{peers: map[peer.ID][]entry{}, owner: map[string]peer.ID{}}
}

// put notes a socket and tells whether that is news.
func (e *entries) put(id peer.ID, n entry) bool {
	if _, known := e.owner[n.name]; known || len(e.owner) >= maxNames {
		return false
	}
	list := e.peers[id]
	// Of two made at one time, the one heard of later is the newer.
	at, _ := slices.BinarySearchFunc(list, n, func(a, b entry) int { return b.made.Compare(a.made) })
	if at >= maxSockets {
		return false
	}
	if len(list) == maxSockets {
		delete(e.owner, list[maxSockets-1].name)
		list = list[:maxSockets-1]
	}
	// A new slice, for others may be reading the old one.
	e.peers[id] = slices.Insert(slices.Clone(list), at, n)
	e.owner[n.name] = id
	return true
}

// drop forgets a socket and tells whether that is news.
func (e *entries) drop(name string) bool {
	id, known := e.owner[name]
	if !known {
		return false
	}
	delete(e.owner, name)
	list := slices.DeleteFunc(slices.Clone(e.peers[id]), func(n entry) bool { return n.name == name })
	if len(list) == 0 {
		delete(e.peers, id)
	} else {
		e.peers[id] = list
	}
	return true
}

func (e *entries) equal(o entries) bool { return maps.Equal(e.owner, o.owner) }
