package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/p2p"
)

const (
	// maxReaders bounds how many read events at once: each watches the mesh.
	maxReaders = 32

	// maxEvents bounds those that a reader has not taken yet.
	maxEvents = 1024

	// lastEventTimeout is how long a reader may take when the node ends.
	lastEventTimeout = time.Second
)

var errReaders = errors.New("too many read events already")

// events hand out what happens to those who read it.
type events struct {
	mu      sync.Mutex // guards the field below
	readers map[*eventReader]struct{}
}

func newEvents() *events { return &events{readers: map[*eventReader]struct{}{}} }

// tell has all readers told. It does not wait for them.
func (e *events) tell(event control.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for r := range e.readers {
		r.put(event)
	}
}

func (e *events) enter() (*eventReader, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.readers) >= maxReaders {
		return nil, errReaders
	}
	r := &eventReader{more: make(chan struct{}, 1)}
	e.readers[r] = struct{}{}
	return r, nil
}

func (e *events) leave(r *eventReader) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.readers, r)
}

// An eventReader is what one reader has not taken yet.
type eventReader struct {
	more chan struct{} // has an element when there may be events

	mu    sync.Mutex // guards the fields below
	queue []control.Event
	lost  uint64 // behind the queue
}

// put adds an event, unless there are too many. It does not wait.
func (r *eventReader) put(event control.Event) {
	event.Version = control.Version
	if event.At.IsZero() {
		event.At = time.Now()
	}
	r.mu.Lock()
	if len(r.queue) < maxEvents {
		r.queue = append(r.queue, event)
	} else {
		r.lost++
	}
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// take returns the events that there are. Where some were lost that is the last one.
func (r *eventReader) take() []control.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.queue
	if r.lost > 0 {
		out = append(out, control.Event{Version: control.Version, At: time.Now(), Kind: control.EventLost, Lost: r.lost})
	}
	r.queue, r.lost = nil, 0
	return out
}

// tellEvents answers with a line for each event, until the reader has gone or the node
// ends. Once the answer has begun none is missed.
func (d *Daemon) tellEvents(w http.ResponseWriter, r *http.Request) {
	if err := wantNoBody(r); err != nil {
		d.writeError(w, err)
		return
	}
	reader, err := d.events.enter()
	if err != nil {
		d.writeError(w, err)
		return
	}
	defer d.events.leave(reader)
	ctx, cancel := context.WithCancel(r.Context())
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()
	d.watch(ctx, &watchers, reader)
	answer := http.NewResponseController(w)
	stop := context.AfterFunc(d.ctx, func() { _ = answer.SetWriteDeadline(time.Now().Add(lastEventTimeout)) })
	defer stop()
	w.Header().Set("Content-Type", "application/jsonl")
	w.WriteHeader(http.StatusOK)
	out := json.NewEncoder(w)
	for over := false; answer.Flush() == nil && !over; {
		select {
		case <-reader.more:
		case <-ctx.Done():
			over = true
		}
		for _, event := range reader.take() {
			if out.Encode(event) != nil {
				return // the reader has gone
			}
		}
		if over && d.ctx.Err() != nil {
			_ = out.Encode(d.lastEvent())
			_ = answer.Flush()
		}
	}
}

func (d *Daemon) lastEvent() control.Event {
	why := "the node was told to end"
	if err := d.mesh.Err(); err != nil && !errors.Is(err, net.ErrClosed) {
		why = err.Error()
	}
	return control.Event{Version: control.Version, At: time.Now(), Kind: control.EventDown, Why: why}
}

// watch tells a reader what the mesh sees from now on, until ctx ends.
func (d *Daemon) watch(ctx context.Context, wg *sync.WaitGroup, r *eventReader) {
	paths := d.mesh.WatchPaths(ctx)
	wg.Go(func() {
		for changes := range paths {
			for _, c := range changes {
				v := d.changeView(c)
				r.put(control.Event{At: v.At, Kind: control.EventPath, Member: d.label(c.Peer), ID: c.Peer.String(), From: v.From, To: v.To, Relay: v.Relay, Why: v.Why})
			}
		}
	})
	follow(wg, d.mesh.Watch(ctx), membersByID, r, memberEvent)
	follow(wg, d.mesh.WatchStreams(ctx), streamsByKey, r, streamEvent)
}

// follow tells a reader what is different each time that all is yielded. It returns
// when the first has been.
func follow[K comparable, V any](wg *sync.WaitGroup, all iter.Seq[[]V], index func([]V) map[K]V, r *eventReader, event func(was, is *V) *control.Event) {
	began := make(chan struct{})
	wg.Go(func() {
		var before map[K]V
		for values := range all {
			now := index(values)
			for key, is := range now {
				var was *V
				if v, ok := before[key]; ok {
					was = &v
				}
				if before != nil {
					r.putAny(event(was, &is))
				}
			}
			for key, was := range before {
				if _, ok := now[key]; !ok {
					r.putAny(event(&was, nil))
				}
			}
			if before == nil {
				close(began)
			}
			before = now
		}
		if before == nil {
			close(began)
		}
	})
	<-began
}

func (r *eventReader) putAny(event *control.Event) {
	if event != nil {
		r.put(*event)
	}
}

func membersByID(all []overlay.Member) map[peer.ID]overlay.Member {
	out := make(map[peer.ID]overlay.Member, len(all))
	for _, m := range all {
		if !m.Self {
			out[m.ID] = m
		}
	}
	return out
}

// memberEvent tells what became of a member, nil if nothing. Was and is are nil where
// there is none.
func memberEvent(was, is *overlay.Member) *control.Event {
	up := was != nil && was.Up
	switch {
	case is == nil:
		return &control.Event{Kind: control.EventMemberGone, Member: was.Name, ID: was.ID.String()}
	case is.Up && !up:
		return &control.Event{Kind: control.EventMemberUp, Member: is.Name, ID: is.ID.String()}
	case !is.Up && up:
		return &control.Event{Kind: control.EventMemberDown, Member: is.Name, ID: is.ID.String()}
	}
	return nil
}

// A streamKey tells streams apart: no two begin at the same nanosecond.
type streamKey struct {
	peer   peer.ID
	dialed bool
	since  time.Time
}

func streamsByKey(all []overlay.StreamInfo) map[streamKey]overlay.StreamInfo {
	out := make(map[streamKey]overlay.StreamInfo, len(all))
	for _, s := range all {
		out[streamKey{s.Peer, s.Dialed, s.Since}] = s
	}
	return out
}

// streamEvent tells what became of a stream, nil if nothing that is told.
func streamEvent(was, is *overlay.StreamInfo) *control.Event {
	if is == nil {
		return nil
	}
	if was == nil {
		was = &overlay.StreamInfo{StreamInfo: p2p.StreamInfo{Path: is.Path}} // it began since, as all do
	}
	view := streamView(*is)
	event := &control.Event{Member: is.Member, ID: is.Peer.String(), From: was.Path.String(), To: is.Path.String(), Stream: &view}
	switch {
	case is.Waiting && !was.Waiting:
		event.Kind, event.To = control.EventStreamWaiting, ""
	case is.Moves > was.Moves:
		event.Kind = control.EventStreamMoved
	case is.Resumes > was.Resumes:
		event.Kind = control.EventStreamResumed
	default:
		return nil
	}
	return event
}
