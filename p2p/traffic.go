package p2p

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// A traffic remembers when many bytes at once last went to a peer or came from it. A connection on
// which much is under way answers late, and is not dead.
type traffic struct {
	metrics.Reporter // nil: nobody asks for what else it has

	much func(peer.ID) // called when muchInAll has moved, and again after cheaperEvery; must not wait

	mu    sync.Mutex
	peers map[peer.ID]*movement
}

// A movement is what moved to and from a peer.
type movement struct {
	last, told time.Time
	bytes      int64 // since it was last told that they are much
}

func newTraffic() *traffic {
	return &traffic{peers: map[peer.ID]*movement{}, much: func(peer.ID) {}}
}

// since tells whether bytes have moved since then.
func (t *traffic) since(id peer.ID, then time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.peers[id]
	return m != nil && m.last.After(then)
}

func (t *traffic) note(id peer.ID, bytes int64, now time.Time) {
	if t.add(id, bytes, now) {
		t.much(id)
	}
}

// add tells whether that makes it much.
func (t *traffic) add(id peer.ID, bytes int64, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.peers[id]
	if m == nil {
		if len(t.peers) > maxMeters {
			clear(t.peers)
		}
		m = &movement{}
		t.peers[id] = m
	}
	m.last = now
	m.bytes += bytes
	if m.bytes < muchInAll || now.Sub(m.told) < cheaperEvery {
		return false
	}
	m.told, m.bytes = now, 0
	return true
}

// LogSentMessage and what follows is for libp2p.
func (*traffic) LogSentMessage(int64) {}

// LogRecvMessage is as LogSentMessage.
func (*traffic) LogRecvMessage(int64) {}

// LogSentMessageStream takes in that bytes went out.
func (t *traffic) LogSentMessageStream(n int64, proto protocol.ID, id peer.ID) {
	if n >= muchAtOnce {
		t.note(id, n, time.Now())
	}
}

// LogRecvMessageStream takes in that bytes came in.
func (t *traffic) LogRecvMessageStream(n int64, _ protocol.ID, id peer.ID) {
	if n >= muchAtOnce {
		t.note(id, n, time.Now())
	}
}

// muchAtOnce is what is written and read at a time by those who fill a connection. What
// little else is written is taken by a dead one as well.
const muchAtOnce = 4 << 10
