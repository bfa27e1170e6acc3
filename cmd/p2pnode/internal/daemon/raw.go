package daemon

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
)

// maxOutcomes bounds how many raw streams that are over are remembered.
const maxOutcomes = 4096

// rawStreams know how each raw stream ended: the bytes alone can't tell.
type rawStreams struct {
	mu   sync.Mutex // guards the fields below
	last uint64     // the stream that began last
	all  map[string]control.Outcome
	over []string // the oldest first
}

func newRawStreams() *rawStreams { return &rawStreams{all: map[string]control.Outcome{}} }

// begin takes in a stream, and returns how it is called.
func (s *rawStreams) begin() (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	id = strconv.FormatUint(s.last, 10)
	s.all[id] = control.Outcome{Version: control.Version, ID: id, State: control.StreamOpen}
	return id
}

// end takes in that a stream is over, and why if it broke.
func (s *rawStreams) end(id string, why *control.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := control.Outcome{Version: control.Version, ID: id, State: control.StreamEnded, Error: why}
	if why != nil {
		o.State = control.StreamBroken
	}
	s.all[id] = o
	s.over = append(s.over, id)
	if len(s.over) > maxOutcomes {
		delete(s.all, s.over[0])
		s.over = s.over[1:]
	}
}

func (s *rawStreams) outcome(id string) (control.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.all[id]
	if !ok {
		return o, fmt.Errorf("stream %.80q: %w", id, errNoStream)
	}
	return o, nil
}
