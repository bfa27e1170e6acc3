package forward

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A flow is the datagrams between one client of a Forward and the target, at
// either end of the stream that they go through.
type flow struct {
	queue *datagramQueue // for the stream
	send  func(payload []byte) error
	meter *meter

	toStream, fromStream *atomic.Uint64 // of the meter

	ctx  context.Context // ends with stop
	stop context.CancelCauseFunc

	began time.Time
	last  atomic.Int64 // when the last datagram came, in nanoseconds since began
}

// errIdle is why a flow ends in peace, and why a connection breaks.
var errIdle = errors.New("idle for too long")

func newFlow(ctx context.Context, send func([]byte) error, m *meter) *flow {
	f := &flow{queue: newDatagramQueue(), send: send, meter: m, began: time.Now()}
	f.ctx, f.stop = context.WithCancelCause(ctx)
	return f
}

// put takes in a datagram for the stream.
func (f *flow) put(payload []byte) {
	f.touch()
	if !f.queue.put(payload) {
		f.meter.dropped.Add(1)
	}
}

func (f *flow) touch() { f.last.Store(int64(time.Since(f.began))) }

// idle returns how long ago the last datagram came.
func (f *flow) idle() time.Duration { return time.Since(f.began) - time.Duration(f.last.Load()) }

// end counts what has not been sent.
func (f *flow) end() {
	f.stop(nil)
	f.meter.dropped.Add(uint64(f.queue.close()))
}

// carry moves datagrams both ways until the stream has ended, the flow is stopped,
// or none has come for a while. Then the stream is closed. It returns why the flow
// broke, or nil if it ended in peace.
func (f *flow) carry(stream net.Conn, limit time.Duration) error {
	var once sync.Once
	var why error
	end := func(err error) {
		once.Do(func() {
			f.end()
			if why = err; err == nil || errors.Is(err, errIdle) {
				why = nil
				_ = stream.Close()
				return
			}
			reset(stream)
		})
	}
	defer context.AfterFunc(f.ctx, func() { end(context.Cause(f.ctx)) })()
	defer f.endWhenIdle(limit)()
	var wg sync.WaitGroup
	wg.Go(func() { end(f.fill(stream)) })
	end(f.drain(stream))
	wg.Wait()
	return why
}

// endWhenIdle has the flow end in peace. The func it returns ends the watch.
func (f *flow) endWhenIdle(limit time.Duration) (done func()) {
	var mu sync.Mutex // until timer is set
	mu.Lock()
	defer mu.Unlock()
	var timer *time.Timer
	timer = time.AfterFunc(limit, func() {
		mu.Lock()
		defer mu.Unlock()
		if left := limit - f.idle(); left > 0 {
			timer.Reset(left)
			return
		}
		f.stop(errIdle)
	})
	return func() { timer.Stop() }
}

// fill writes what is queued to the stream, until the queue is closed.
func (f *flow) fill(stream net.Conn) error {
	var framed []byte
	for {
		var payload int
		if framed, payload = f.queue.take(framed); framed == nil {
			return nil
		}
		if _, err := stream.Write(framed); err != nil {
			return err
		}
		f.toStream.Add(uint64(payload))
	}
}

// drain sends what comes by the stream, until that ends.
func (f *flow) drain(stream net.Conn) error {
	r := newDatagramReader(stream)
	for {
		b, err := r.next()
		if err != nil {
			return endOrError(err)
		}
		f.touch()
		if err := f.send(b.payload()); err != nil {
			f.meter.dropped.Add(1)
		} else {
			f.fromStream.Add(uint64(b.n))
		}
		b.release()
	}
}
