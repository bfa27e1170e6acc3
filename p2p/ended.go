package p2p

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p/durable"
)

// An endedKey names a stream that has ended.
type endedKey struct {
	peer peer.ID
	id   durable.ID
}

// An endedStreams remembers the last maxEnded streams that have ended, with their codes.
type endedStreams struct {
	codes map[endedKey]uint32
	order []endedKey // a ring
	next  int        // in it
}

const maxEnded = 1 << 12

func (e *endedStreams) add(k endedKey, code uint32) {
	if e.codes == nil {
		e.codes = map[endedKey]uint32{}
	}
	e.codes[k] = code
	if len(e.order) < maxEnded {
		e.order = append(e.order, k)
		return
	}
	delete(e.codes, e.order[e.next])
	e.order[e.next] = k
	e.next = (e.next + 1) % maxEnded
}

// whyEnded returns the code that a peer is told for a stream that there is not, and
// whether it is known that there was one.
func (ds *durables) whyEnded(id peer.ID, sid durable.ID) (code uint32, known bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.whyEndedLocked(endedKey{id, sid})
}

func (ds *durables) whyEndedLocked(k endedKey) (code uint32, known bool) {
	for _, ended := range []*endedStreams{&ds.gaveUp, &ds.done} {
		if code, known := ended.codes[k]; known {
			return code, true
		}
	}
	return durable.CodeUnknown, false
}
