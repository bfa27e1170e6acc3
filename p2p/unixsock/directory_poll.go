//go:build linux || darwin

package unixsock

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pollInterval is how often a directory is looked at that can't be watched.
const pollInterval = time.Second

// A poller is the watcher for when the system has no other: it looks whether
// the directory changed. What changed, it cannot tell.
type poller struct {
	handle  *handle
	closing <-chan struct{}
	closed  chan struct{}
	seen    time.Time // when the directory had changed last, when last looked at
	doubt   bool      // that was too short before for all to have been seen
}

func newPoller(h *handle, closing <-chan struct{}) watcher {
	return &poller{handle: h, closing: closing, closed: make(chan struct{})}
}

func (p *poller) next(deadline time.Time) ([]change, error) {
	for {
		until, last := time.Now().Add(pollInterval), false
		if !deadline.IsZero() && deadline.Before(until) {
			until, last = deadline, true
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-timer.C:
		case <-p.closing:
			timer.Stop()
			return nil, os.ErrClosed
		}
		if last {
			return nil, os.ErrDeadlineExceeded
		}
		changed, err := p.look()
		if err != nil {
			return nil, err
		}
		if changed {
			return []change{{what: theDirectory}, {what: everyFile}}, nil
		}
	}
}

func (p *poller) look() (bool, error) {
	var st unix.Stat_t
	if err := p.handle.do("stat", "", func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return false, err
	}
	changed := time.Unix(st.Ctim.Unix())
	news := !changed.Equal(p.seen) || p.doubt
	p.seen, p.doubt = changed, time.Since(changed) < pollInterval
	return news, nil
}

func (p *poller) close() {}
