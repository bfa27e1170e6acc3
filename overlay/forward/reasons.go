package forward

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

const (
	// maxReasons bounds the reasons that are told apart, and maxReason the length of
	// one in bytes: what is beyond is counted as otherReason.
	maxReasons  = 32
	maxReason   = 100
	otherReason = "other"
)

// reasons counts why connections failed or broke.
type reasons struct {
	mu    sync.Mutex // guards the field below
	count map[string]uint64
}

// add counts a reason, but not that this end is closed: it is told who asked for it.
func (r *reasons) add(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	why := rootOf(err).Error()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.count[why]; !known && len(r.count) >= maxReasons || len(why) > maxReason {
		why = otherReason
	}
	if r.count == nil {
		r.count = map[string]uint64{}
	}
	r.count[why]++
}

// all returns the counts, nil if there are none.
func (r *reasons) all() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.count)
}

// rootOf returns what an error comes down to, without the names of what it happened
// to, which would be another reason for each.
func rootOf(err error) error {
	for {
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			if e.Unwrap() == nil {
				return err
			}
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			all := slices.DeleteFunc(slices.Clone(e.Unwrap()), func(err error) bool { return err == nil }) // as a StreamError's
			if len(all) == 0 {
				return err
			}
			err = all[len(all)-1]
		default:
			return err
		}
	}
}
