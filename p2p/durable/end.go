package durable

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Why a stream is over before both ends have closed it.
var (
	// ErrTimeLimit says that no carrier was found within Config.Limit.
	ErrTimeLimit = errors.New("the peer was not reached again in time")

	// ErrUnknown says that the peer no longer knows the stream: it was started anew,
	// or has given the stream up.
	ErrUnknown = errors.New("the peer no longer knows the stream")
)

// A ResetError says that the other end gave the stream up, with a code.
type ResetError struct{ Code uint32 }

func (e *ResetError) Error() string { return fmt.Sprintf("reset by the peer with code %d", e.Code) }

// How much an end holds of what is not acknowledged.
const (
	firstLimit = 512 << 10 // to begin with: more leaves the processor's cache
	lastLimit  = 32 << 20  // at most: 1 Gbit/s at 250 ms
)

// stallAfter is how long the other end may leave bytes unacknowledged before the
// carrier is to be looked at: well above the time in which it would acknowledge them
// without being asked.
const stallAfter = time.Second

// Config is what an End is made with.
type Config struct {
	// Limit is how long a stream waits for another carrier; zero is for ever.
	Limit time.Duration

	// Budget is the memory that the stream shares with others; nil is without bounds.
	Budget *Budget
}

// An End is one end of a stream. It does nothing by itself, and knows no clock: it
// is told what has happened and when, and asked what is to be done. Its methods must
// not be called at the same time.
//
// Offsets count the bytes of one direction from its beginning; its end counts as one.
type End struct {
	id     ID
	opener bool
	cfg    Config

	epoch    uint64 // of the carrier that there is, or was
	asked    uint64 // the epoch of the last Hello of an opener
	from     uint64 // and its Got
	attached bool
	since    time.Time // there is no carrier

	// To the other end.
	out     replay
	acked   uint64
	given   uint64 // the offset up to which a carrier was ever given bytes
	limit   int    // of out
	toAsk   int    // bytes since the last frame that is to be acknowledged at once
	closed  bool   // the last frame is in out
	starved bool   // there was no room
	moved   time.Time
	timing  uint64 // the offset whose acknowledgement is timed, or 0
	timed   time.Time
	rtt     time.Duration // the shortest seen
	mark    uint64        // acked, at
	marked  time.Time

	// From the other end.
	heard    bool // anything
	got      uint64
	skip     uint64 // bytes that come again
	body     int    // data of the frame that is still to come
	ask      bool   // and its kind
	finished bool   // the last frame has come
	told     uint64 // what was last acknowledged
	toldEnd  uint64 // what the last frame to the other end acknowledges
	urgent   bool

	err      error // why it is over
	replayed uint64
	resumes  int
}

// Open returns the opener's end of a new stream, whose first carrier begins with
// Hello{ID: id, Protocol: …}.
func Open(id ID, c Config) *End { return newEnd(id, true, c) }

// Accept returns the other end of a stream that a peer has opened.
func Accept(id ID, c Config) *End { return newEnd(id, false, c) }

func newEnd(id ID, opener bool, c Config) *End {
	return &End{id: id, opener: opener, cfg: c, attached: true, limit: firstLimit, out: replay{budget: c.Budget}}
}

// ID returns the stream's ID.
func (e *End) ID() ID { return e.id }

// Epoch returns the number of the carrier: that of the first is zero.
func (e *End) Epoch() uint64 { return e.epoch }

// Err returns why the stream is over, nil if it is not or if both ends have closed it.
func (e *End) Err() error { return e.err }

// Append takes in bytes to be sent, as many as there is room for.
func (e *End) Append(p []byte, now time.Time) int {
	taken := 0
	for taken < len(p) && e.open() {
		n := e.out.append(p[taken:], e.limit, e.frameKind)
		if n == 0 {
			e.starve(now)
			break
		}
		taken += n
	}
	return taken
}

// Reserve returns memory for up to n bytes to be sent, nil if there is no room now.
// Commit takes in what was put there; nothing else may be taken in between.
func (e *End) Reserve(n int, now time.Time) []byte {
	if !e.open() {
		return nil
	}
	b := e.out.reserve(n, e.limit)
	if b == nil {
		e.starve(now)
	}
	return b
}

// Commit takes in the first n bytes of what Reserve returned.
func (e *End) Commit(n int) {
	if e.open() {
		e.out.commit(n, e.frameKind)
	}
}

// open tells whether more can be taken in.
func (e *End) open() bool { return !e.closed && e.err == nil }

func (e *End) starve(now time.Time) {
	if e.starved = true; e.marked.IsZero() {
		e.mark, e.marked = e.acked, now
	}
}

// frameKind has a frame acknowledged at once where half of what may be held has
// gone out since the last, and each while memory is short.
func (e *End) frameKind(n int) int {
	if e.toAsk += n; e.toAsk < e.limit/2 && !e.out.short {
		return kindData
	}
	e.toAsk = 0
	return kindAsk
}

// CloseWrite ends the direction to the other end.
func (e *End) CloseWrite() {
	if e.open() {
		e.closed = true
		e.out.mark(kindFin, e.got)
		e.toldEnd = e.got
	}
}

// Closed tells whether CloseWrite was called.
func (e *End) Closed() bool { return e.closed }

// Next returns bytes that the carrier is to be given, nil if there are none now. They
// stay as they are until Sent is called, which comes before the next Next, also where
// that is for another carrier.
func (e *End) Next(now time.Time) []byte {
	if !e.attached || e.err != nil {
		return nil
	}
	b := e.out.next()
	if len(b) == 0 {
		return nil
	}
	e.out.lend()
	if e.given == e.acked {
		e.moved = now
	}
	if e.out.at < len(e.out.chunks) {
		e.given = max(e.given, e.out.endOf(e.out.at))
	}
	if e.timing == 0 && e.given > e.acked {
		e.timing, e.timed = e.given, now
	}
	return b
}

// Sent says that the carrier of an epoch took n bytes of what Next returned.
func (e *End) Sent(epoch uint64, n int) {
	e.out.lent = nil
	if e.attached && epoch == e.epoch && e.err == nil {
		e.out.sent(n)
		e.out.drop(e.acked)
		if e.closed && !e.Pending() {
			e.told = max(e.told, e.toldEnd)
		}
	}
}

// Pending tells whether there are bytes for the carrier.
func (e *End) Pending() bool { return e.err == nil && len(e.out.next()) > 0 }

// Take reads what a carrier has brought: wire, of which it used so many bytes, brings
// n bytes of data that go to p. What is not used is to be given again, with more behind
// it. The error is ErrProtocol.
func (e *End) Take(wire, p []byte) (used, n int, err error) {
	for used < len(wire) && e.err == nil {
		if e.body > 0 {
			k := min(e.body, len(wire)-used)
			if e.skip == 0 {
				k = copy(p[n:], wire[used:used+k])
			} else {
				k = int(min(uint64(k), e.skip))
			}
			if k == 0 {
				return used, n, nil
			}
			used += k
			n += e.Took(k)
			continue
		}
		k, err := e.takeHeader(wire[used:])
		if err != nil || k == 0 {
			return used, n, err
		}
		used += k
	}
	return used, n, nil
}

// takeHeader reads the header of a frame.
func (e *End) takeHeader(wire []byte) (int, error) {
	kind, value, n, err := header(wire)
	if err != nil || n == 0 {
		return 0, err
	}
	e.heard = true
	if e.finished && e.skip == 0 {
		return 0, fmt.Errorf("%w: more after the end", ErrProtocol)
	}
	switch kind {
	case kindData, kindAsk:
		if value == 0 || value > MaxFrame {
			return 0, fmt.Errorf("%w: a frame of %d bytes", ErrProtocol, value)
		}
		if e.got+value > maxOffset {
			return 0, fmt.Errorf("%w: more bytes than a stream may have", ErrProtocol)
		}
		if e.finished && value >= e.skip {
			return 0, fmt.Errorf("%w: the end comes again, and later", ErrProtocol)
		}
		e.body, e.ask = int(value), kind == kindAsk
	case kindFin:
		if e.skip > 0 && !(e.finished && e.skip == 1) {
			return 0, fmt.Errorf("%w: the end comes where there was data", ErrProtocol)
		}
		if err := e.acknowledge(value); err != nil {
			return 0, err
		}
		if e.skip > 0 {
			e.skip = 0
			break
		}
		e.finished = true
		e.got++
		e.settle()
	case kindReset:
		e.fail(&ResetError{uint32(min(value, maxCode))})
	}
	return n, nil
}

// Direct returns how many bytes of data come next, at most limit: they may be read
// straight from the carrier, and Took says that they were. It is zero where Take has
// to look first.
func (e *End) Direct(limit int) int {
	if e.err != nil {
		return 0
	}
	n := min(e.body, limit)
	if e.skip > 0 {
		n = int(min(uint64(n), e.skip))
	}
	return n
}

// Took says that n bytes of data were read, and returns how many of them had not come
// before: all or none.
func (e *End) Took(n int) int {
	e.body -= n
	if e.skip > 0 {
		e.skip -= uint64(n)
		return 0
	}
	counted, given := mutate(n)
	e.got += uint64(counted)
	if e.body == 0 && e.ask {
		e.urgent = true
	}
	return given
}

// Moved returns how many bytes have gone to the other end and come from it.
func (e *End) Moved() uint64 { return e.given + e.got }

// Finished tells whether all that the other end wrote has been read, and it will write
// no more.
func (e *End) Finished() bool { return e.finished }

// AckDue tells whether the other end is to be told how far this one has read, and
// whether at once.
func (e *End) AckDue() (due, urgent bool) {
	return e.err == nil && e.got > e.told, e.urgent && e.got > e.told
}

// Ack returns how far this end has read, for MessageAck.
func (e *End) Ack() uint64 {
	e.told, e.urgent = e.got, false
	return e.got
}

// Acked says that the other end has all up to an offset.
func (e *End) Acked(offset uint64, now time.Time) error {
	if e.err != nil || offset <= e.acked {
		return nil
	}
	if err := e.acknowledge(offset); err != nil {
		return err
	}
	e.moved, e.heard = now, true
	if e.timing != 0 && offset >= e.timing {
		if d := now.Sub(e.timed); e.rtt == 0 || d < e.rtt {
			e.rtt = d
		}
		e.timing = 0
	}
	e.grow(now)
	return nil
}

// acknowledge frees what the other end has, of which it may have told before.
func (e *End) acknowledge(offset uint64) error {
	if offset > e.given {
		return fmt.Errorf("%w: %d bytes acknowledged of %d", ErrProtocol, offset, e.given)
	}
	if offset > e.acked {
		e.acked = offset
		e.out.drop(offset)
		e.settle()
	}
	return nil
}

// settle frees what would be sent again in vain.
func (e *End) settle() {
	if e.Done() {
		e.out.clear()
	}
}

// grow doubles what may be held where half of that was acknowledged within four round
// trips while there was no room for more: then it is less than what is on the way.
func (e *End) grow(now time.Time) {
	if !e.starved || e.limit >= lastLimit {
		return
	}
	if now.Sub(e.marked) > 4*e.rtt {
		e.mark, e.marked = e.acked, now
		e.starved = false
		return
	}
	if e.acked-e.mark >= uint64(e.limit/2) {
		e.limit *= 2
		e.mark, e.marked, e.starved = e.acked, now, false
	}
}

// Outstanding tells whether the other end has yet to acknowledge bytes.
func (e *End) Outstanding() bool { return e.err == nil && e.given > e.acked }

// Stalled tells whether the carrier is to be looked at, since the other end has
// acknowledged nothing for a while of what it was given.
func (e *End) Stalled(now time.Time) bool {
	return e.attached && e.Outstanding() && now.Sub(e.moved) >= stallAfter
}

// Lost says that the carrier of an epoch is no more. It tells whether that was the
// one that there is.
func (e *End) Lost(epoch uint64, now time.Time) bool {
	if !e.attached || epoch != e.epoch || e.err != nil {
		return false
	}
	e.attached, e.since = false, now
	return true
}

// Attached tells whether there is a carrier.
func (e *End) Attached() bool { return e.attached }

// Deadline returns when the stream is over for want of a carrier, the zero Time if
// there is one or if there is no limit.
func (e *End) Deadline() time.Time {
	if e.attached || e.cfg.Limit == 0 || e.err != nil || e.Done() {
		return time.Time{}
	}
	return e.since.Add(e.cfg.Limit)
}

// Expire ends the stream if its deadline has passed.
func (e *End) Expire(now time.Time) {
	if d := e.Deadline(); !d.IsZero() && !now.Before(d) {
		e.fail(ErrTimeLimit)
	}
}

// Heard tells whether anything has come from the other end. Until it has, an opener adds
// Protocol and Age to Hello: the other end may not have heard of the stream.
func (e *End) Heard() bool { return e.heard }

// Hello returns what an opener sends first on another carrier. Until Resumed, the
// carrier that there is may be used.
func (e *End) Hello() Hello {
	e.asked = max(e.asked, e.epoch) + 1
	e.from = e.got
	return Hello{ID: e.id, Resume: true, Epoch: e.asked, Got: e.from}
}

// Resumed has an opener's end go on with the carrier on which the other end has
// answered the Hello of an epoch. The carrier before is used no more. It returns false
// where another Hello was sent since.
func (e *End) Resumed(epoch uint64, a Answer, now time.Time) (bool, error) {
	switch {
	case e.err != nil:
		return false, e.err
	case epoch != e.asked || epoch <= e.epoch:
		return false, nil
	case a.Gone:
		e.gone(a.Code)
		return false, e.err
	case a.From < e.from || a.From > e.got:
		return false, fmt.Errorf("%w: resumed from %d, where %d to %d were to come", ErrProtocol, a.From, e.from, e.got)
	}
	if err := e.attach(epoch, a.Got, a.From, now); err != nil {
		return false, err
	}
	return true, nil
}

// Resume has the other end go on with a carrier that began with h, and returns what it
// is to answer first. It returns false where a carrier that came later is there
// already. The carrier before is used no more.
func (e *End) Resume(h Hello, now time.Time) (Answer, bool, error) {
	switch {
	case e.opener:
		return Answer{}, false, fmt.Errorf("%w: a stream resumed by the end that did not open it", ErrProtocol)
	case e.err != nil:
		return Answer{Gone: true, Code: CodeOf(e.err)}, true, nil
	case h.Epoch <= e.epoch:
		return Answer{}, false, nil
	}
	// What was acknowledged after the Hello was made, and came sooner, is gone.
	a := Answer{Got: e.got, From: max(h.Got, e.acked)}
	if err := e.attach(h.Epoch, a.From, a.Got, now); err != nil {
		return Answer{}, false, err
	}
	return a, true, nil
}

// attach goes on with a carrier. The other end has all up to theirs, and sends from
// ours.
func (e *End) attach(epoch, theirs, ours uint64, now time.Time) error {
	if theirs < e.acked {
		return fmt.Errorf("%w: resumed at %d, where %d were acknowledged", ErrProtocol, theirs, e.acked)
	}
	if err := e.acknowledge(theirs); err != nil {
		return err
	}
	e.out.rewind(theirs)
	e.out.drop(theirs)
	e.replayed += e.given - theirs
	e.resumes++
	e.epoch, e.attached, e.moved, e.timing, e.heard = epoch, true, now, 0, true
	e.body, e.skip = 0, e.got-ours
	e.told = ours // it may not have heard of more
	return nil
}

// Reset gives the stream up.
func (e *End) Reset(err error) { e.fail(err) }

// PeerReset says that the other end gave the stream up with a code.
func (e *End) PeerReset(code uint32) { e.fail(&ResetError{code}) }

// Gone says that the other end does not know the stream.
func (e *End) Gone(code uint32) { e.gone(code) }

func (e *End) gone(code uint32) {
	switch {
	case code != CodeUnknown:
		e.fail(&ResetError{code})
	case e.closed && e.finished:
		e.drained() // it knows no stream that is done
	default:
		e.fail(ErrUnknown)
	}
}

// fail ends the stream for a reason, unless it is over.
func (e *End) fail(err error) {
	if e.err == nil && !e.Done() {
		e.err = cmp.Or(err, error(&ResetError{}))
		e.out.clear()
	}
}

// Drained says that the carrier ended after all that the other end sent, its last
// frame included: by that it says that it has all.
func (e *End) Drained() {
	if e.attached && e.Finished() && e.closed && !e.Pending() {
		e.drained()
	}
}

func (e *End) drained() {
	e.acked, e.given = e.out.end, e.out.end
	e.out.clear()
}

// Told tells whether the other end has acknowledged all, the end included.
func (e *End) Told() bool { return e.closed && e.acked == e.out.end }

// Flushed tells whether the carrier was given all, the end included.
func (e *End) Flushed() bool { return e.closed && e.attached && !e.Pending() }

// Through tells whether the carrier has brought all that the other end gives it for the
// stream: what comes behind that is of another.
func (e *End) Through() bool { return e.finished && e.skip == 0 }

// Done tells whether both ends have closed the stream and this one knows that the other
// has all.
func (e *End) Done() bool { return e.finished && e.Told() }

// Held returns the bytes of memory that the end holds for what is not acknowledged.
func (e *End) Held() int { return e.out.held }

// Replayed returns how many bytes were sent again, and Resumes how often the stream
// went on with another carrier.
func (e *End) Replayed() uint64 { return e.replayed }

// Resumes returns how often the stream went on with another carrier.
func (e *End) Resumes() int { return e.resumes }
