package forward

import (
	"sync"
	"sync/atomic"
)

// Stats are the counts of a [Forward] or an [Expose] since it was made. They
// are read one after the other while connections go on, so one may be a moment
// newer than another.
type Stats struct {
	// Open is the number of connections open now, among them those whose other
	// end is still being dialled. Of datagrams each flow is a connection.
	Open int

	// Total is the number of connections accepted, Failed how many of them
	// ended because their other end could not be dialled.
	Total, Failed uint64

	// Sent is the number of bytes, without the lengths of datagrams, that went from local sockets into the mesh,
	// Received how many came out of it. Of an Expose's connections that were handed
	// over to the process at the other end, see the package comment, they count when
	// the connection is over, and not where the target is a unix socket: nobody
	// tells.
	Sent, Received uint64

	// Dropped is the number of datagrams that were lost here, because the mesh or a
	// socket took no more, there was no room for another flow, or a flow ended while
	// they waited.
	Dropped uint64

	// Reasons counts why connections failed, whose other end could not be dialled, and
	// why others broke. Each is what an error comes down to, such as "connection
	// refused"; when there are many those that are new are counted as "other". It is
	// nil if there are none.
	Reasons map[string]uint64

	// LastError says why the last accept or dial failed. It is nil if none has
	// failed, or if a dial has succeeded since.
	LastError error
}

// A meter counts what becomes Stats. Bytes are counted when the receiving side
// has taken them.
type meter struct {
	open                  atomic.Int64
	total, failed         atomic.Uint64
	dropped               atomic.Uint64
	reasons               reasons
	toDialled, toAccepted atomic.Uint64

	mu      sync.Mutex // guards the field below
	lastErr error
}

func (m *meter) opened() {
	m.open.Add(1)
	m.total.Add(1)
}

func (m *meter) closed() { m.open.Add(-1) }

// failure notes an error, and returns whether it says something new.
func (m *meter) failure(err error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.lastErr != nil && m.lastErr.Error() == err.Error()
	m.lastErr = err
	return !known
}

// recovered notes that a dial succeeded.
func (m *meter) recovered() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastErr = nil
}

func (m *meter) stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{
		Open:      int(m.open.Load()),
		Total:     m.total.Load(),
		Failed:    m.failed.Load(),
		Sent:      m.toDialled.Load(),
		Received:  m.toAccepted.Load(),
		Dropped:   m.dropped.Load(),
		Reasons:   m.reasons.all(),
		LastError: m.lastErr,
	}
}
