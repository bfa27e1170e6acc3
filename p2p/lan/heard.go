package lan

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

const (
	// Outsiders can make up any number of instances, and members of the group a
	// few: when there are more, the one not heard of for longest is forgotten.
	maxPeers     = 256
	maxStrangers = 256

	// Opening a box takes a few microseconds. In one second this many are opened
	// at most, and it is enough for all of a large group to answer at once.
	maxOpened = 256
)

// A place is where something is heard: an instance may be on more than one link.
type place struct {
	index    int // of the interface
	instance string
}

// A heard is what an instance said last.
type heard struct {
	note         // with no peer if it is not of this group
	box   []byte // to know it again without opening it
	at    time.Time
	until time.Time // after which it is forgotten
	gone  bool      // it said goodbye, and no older box may call it back
	told  bool      // to the user
}

func (h *heard) isStranger() bool { return h.peer == "" }

// hearing is the memory of what was heard. It does no I/O and keeps no clock.
type hearing struct {
	boxes boxes
	self  peer.ID
	all   map[place]*heard

	opened pace
	stats  *counters
}

// hear takes in an answer. It returns whom to tell the user of, if anyone.
func (h *hearing) hear(l link, from netip.Addr, a answer, now time.Time) (peer.AddrInfo, bool) {
	at := place{l.index, a.instance}
	old := h.all[at]
	until := now.Add(time.Duration(min(a.ttl, uint32(ttl/time.Second))) * time.Second)
	if old != nil && bytes.Equal(old.box, a.box) {
		if a.ttl > 0 && !old.gone {
			old.at, old.until = now, until
			if last := old.note.until.Add(maxSkew); !old.isStranger() && last.Before(until) {
				old.until = last // somebody keeps an old box alive
			}
		}
		return h.tell(old)
	}
	if h.opened.pause(now, maxOpened) > 0 {
		h.stats.dropped.Add(1)
		return peer.AddrInfo{}, false
	}
	n, err := h.boxes.open(a.instance, a.box, now)
	switch {
	case err == errForeign:
		h.stats.foreign.Add(1)
	case err != nil:
		h.stats.garbage.Add(1)
	}
	known := old != nil && !old.isStranger()
	if known && (err != nil || n.number <= old.number || n.peer != old.peer) {
		return peer.AddrInfo{}, false // forged, or said again by another
	}
	next := &heard{box: a.box, at: now, until: until}
	if err == nil && n.peer != h.self {
		next.note = n
		next.addrs = toBelieve(n.addrs, l, from)
		next.gone = len(n.addrs) == 0
		next.told = known && old.told && sameAddrs(old.addrs, next.addrs)
	}
	if next.gone {
		next.until = n.until.Add(maxSkew) // no box of it is good for longer
	}
	h.all[at] = next
	h.forget(next.isStranger())
	return h.tell(next)
}

func (h *hearing) tell(e *heard) (peer.AddrInfo, bool) {
	if e.told || e.isStranger() || e.gone || len(e.addrs) == 0 {
		return peer.AddrInfo{}, false
	}
	e.told = true
	return peer.AddrInfo{ID: e.peer, Addrs: slices.Clone(e.addrs)}, true
}

// forget makes room: it forgets what was heard least lately, of the strangers or
// of the others.
func (h *hearing) forget(strangers bool) {
	most, count := maxPeers, 0
	if strangers {
		most = maxStrangers
	}
	if len(h.all) <= most {
		return
	}
	var oldest place
	var first *heard
	for at, e := range h.all {
		if e.isStranger() != strangers {
			continue
		}
		if count++; first == nil || e.at.Before(first.at) {
			oldest, first = at, e
		}
	}
	if count > most {
		delete(h.all, oldest)
	}
}

// expire forgets what has not been said again.
func (h *hearing) expire(now time.Time) {
	maps.DeleteFunc(h.all, func(_ place, e *heard) bool { return e.until.Before(now) })
}

// restart makes all that is heard from now on news. What was heard before is
// forgotten soon, unless it is heard again: the link may be another network now.
func (h *hearing) restart(links map[int]*speech, now time.Time) {
	maps.DeleteFunc(h.all, func(at place, e *heard) bool { return links[at.index] == nil })
	for _, e := range h.all {
		e.told = false
		if last := now.Add(askRarely); !e.gone && last.Before(e.until) {
			e.until = last
		}
	}
}

// known returns who need not say again on a link what it said, strangers
// included: who asks does not show which instances it can make sense of.
func (h *hearing) known(index int, now time.Time) []string {
	var out []string
	for at, e := range h.all {
		if at.index == index && !e.gone && e.until.Sub(now) > ttl/2 {
			out = append(out, at.instance)
		}
	}
	slices.Sort(out)
	return out
}

// knows tells whether all of the instances were heard on a link.
func (h *hearing) knows(index int, instances []string) bool {
	for _, i := range instances {
		if h.all[place{index, i}] == nil {
			return false
		}
	}
	return true
}

// peers returns who is there, and at which addresses, over all links.
func (h *hearing) peers() []peer.AddrInfo {
	byID := map[peer.ID][]multiaddr.Multiaddr{}
	for _, e := range h.all {
		if !e.isStranger() && !e.gone {
			byID[e.peer] = append(byID[e.peer], e.addrs...)
		}
	}
	out := make([]peer.AddrInfo, 0, len(byID))
	for id, addrs := range byID {
		out = append(out, peer.AddrInfo{ID: id, Addrs: unique(addrs)})
	}
	slices.SortFunc(out, func(a, b peer.AddrInfo) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

func sameAddrs(a, b []multiaddr.Multiaddr) bool {
	return slices.EqualFunc(a, b, multiaddr.Multiaddr.Equal)
}
