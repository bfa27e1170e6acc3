package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"time"
)

// An Event is something that happened at a node, or that it saw happen.
type Event struct {
	Version int       `json:"v"`
	At      time.Time `json:"at"`
	Kind    EventKind `json:"event"`

	Member string `json:"member,omitempty"` // whom it is about, by name
	ID     string `json:"id,omitempty"`     // and by peer ID

	From  string `json:"from,omitempty"`  // the path that was; empty without a connection
	To    string `json:"to,omitempty"`    // the path that is
	Relay string `json:"relay,omitempty"` // through which it goes

	Stream  *Stream `json:"stream,omitempty"`
	Service string  `json:"service,omitempty"`
	Listen  string  `json:"listen,omitempty"`
	Target  string  `json:"target,omitempty"`

	Why  string `json:"why,omitempty"`
	Lost uint64 `json:"lost,omitempty"` // events that this reader was too slow for
}

// An EventKind tells what happened.
type EventKind string

// The kinds of events. A reader skips those that it does not know.
const (
	EventMemberUp   EventKind = "member-up"
	EventMemberDown EventKind = "member-down" // as far as this node knows
	EventMemberGone EventKind = "member-gone" // it has left, is put out or forgotten
	EventPath       EventKind = "path"        // streams to a member go another way, and why

	EventStreamMoved   EventKind = "stream-moved"   // to a better connection
	EventStreamResumed EventKind = "stream-resumed" // after its connection was lost
	EventStreamWaiting EventKind = "stream-waiting" // for a connection

	EventExposed   EventKind = "exposed"
	EventUnexposed EventKind = "unexposed"
	EventForward   EventKind = "forward"
	EventUnforward EventKind = "unforward"
	EventProxy     EventKind = "proxy"
	EventUnproxy   EventKind = "unproxy"
	EventAccess    EventKind = "access" // who may use a service has changed

	EventLost EventKind = "lost" // of events that came next
	EventDown EventKind = "down" // the node ends, and why
)

// maxEvent bounds one event, in bytes.
const maxEvent = 64 << 10

// Events yields what happens from the call on, until ctx ends or the node does: then the
// last event is [EventDown], and without it there is an error at last.
func (c *Client) Events(ctx context.Context) (iter.Seq2[Event, error], error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node/v1/events", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, cause(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, readError(resp.Body, resp.Status)
	}
	return func(yield func(Event, error) bool) {
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, maxEvent)
		for lines.Scan() {
			var e Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				yield(Event{}, fmt.Errorf("read the node's answer: %w", err))
				return
			}
			if !yield(e, nil) || e.Kind == EventDown {
				return
			}
		}
		err := lines.Err()
		if err == nil {
			err = errEnded
		}
		yield(Event{}, cause(ctx, err))
	}, nil
}
