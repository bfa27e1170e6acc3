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

	mu   sync.Mutex
	last map[peer.ID]time.Time
}

func newTraffic() *traffic {
	return &traffic{last: map[peer.ID]time.Time{}}
}

// since tells whether bytes have moved since then.
func (t *traffic) since(id peer.ID, then time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last[id].After(then)
}

func (t *traffic) note(id peer.ID) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) > maxMeters {
		clear(t.last)
	}
	t.last[id] = now
}

// LogSentMessage and what follows is for libp2p.
func (*traffic) LogSentMessage(int64) {}

// LogRecvMessage is as LogSentMessage.
func (*traffic) LogRecvMessage(int64) {}

// LogSentMessageStream takes in that bytes went out.
func (t *traffic) LogSentMessageStream(n int64, proto protocol.ID, id peer.ID) {
	if n >= muchAtOnce {
		t.note(id)
	}
}

// LogRecvMessageStream takes in that bytes came in.
func (t *traffic) LogRecvMessageStream(n int64, _ protocol.ID, id peer.ID) {
	if n >= muchAtOnce {
		t.note(id)
	}
}

// muchAtOnce is what is written and read at a time by those who fill a connection. What
// little else is written is taken by a dead one as well.
const muchAtOnce = 4 << 10
