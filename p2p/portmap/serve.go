package portmap

import (
	"context"
	"errors"
	"slices"
	"time"
)

// renew asks for what is due in the way that works. If it gives nothing any
// more, none is chosen.
func (k *keeper) renew(ctx context.Context) {
	if k.chosen == nil {
		return
	}
	if asked, got := k.serve(ctx, k.chosen); asked > 0 && got == 0 && ctx.Err() == nil {
		k.chosen, k.probes.done = nil, false
		for _, h := range k.holds {
			h.failed = nil // the router may only have been busy
		}
	}
}

// choose asks for what is due in the ways that have answered, by preference, and
// keeps the first that gives anything.
func (k *keeper) choose(ctx context.Context) {
	for _, c := range k.probes.take() {
		if _, got := k.serve(ctx, c); got > 0 && k.chosen == nil {
			k.chosen = c
			k.log.Info("router maps ports", "protocol", c.protocol(), "gateway", k.up.gateway)
			k.tell()
		}
	}
}

// serve asks for all that is due, and counts for how many, and what is had.
func (k *keeper) serve(ctx context.Context, c client) (asked, got int) {
	for _, h := range k.due() {
		if slices.Contains(h.failed, c.protocol()) {
			continue
		}
		asked++
		err := k.ask(ctx, c, h)
		if err == nil {
			got++
			continue
		}
		if ctx.Err() != nil {
			return asked, got
		}
		h.failed = append(h.failed, c.protocol())
		if !isRefusal(err) {
			return asked, got // the others would wait as long, for nothing
		}
	}
	return asked, got
}

func isRefusal(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused) || errors.Is(err, errUseless)
}

// ask has one port mapped, and tells whether it is.
func (k *keeper) ask(ctx context.Context, c client, h *hold) error {
	r, err := c.request(ctx, ask{h.proto, h.number, h.mapping.External, lifetime, h.nonce})
	k.note(ctx, c.protocol(), r, err)
	if err != nil {
		k.log.Debug("no port mapping", "proto", h.proto, "port", h.number, "err", err)
		return err
	}
	now := time.Now()
	h.mapping = Mapping{h.proto, h.number, r.external, c.protocol(), now.Add(r.lifetime)}
	h.due, h.pause, h.failed = now.Add(max(r.lifetime/2, soonest)), 0, nil
	if r.forgot {
		k.log.Info("router forgot its port mappings", "gateway", k.up.gateway)
		// Not at once, or a router that always forgets would be asked forever.
		soon := now.Add(soonest)
		for _, other := range k.holds {
			if other.due.After(soon) && other != h {
				other.due = soon
			}
		}
	}
	return nil
}

// note keeps what came of a protocol.
func (k *keeper) note(ctx context.Context, p Protocol, r reply, err error) {
	var refused *RefusedError
	a := Attempt{Protocol: p, Answer: Available, Err: err, External: k.attempts[p].External, At: time.Now()}
	switch {
	case ctx.Err() != nil:
		return // it was given up, which says nothing
	case errors.As(err, &refused):
		a.Answer, a.Code = Refused, refused.Code
	case errors.Is(err, errUseless):
		a.Answer = Refused
	case err != nil:
		a.Answer = Silent
	case r.external.Addr().IsValid():
		a.External = r.external.Addr()
	}
	k.attempts[p] = a
}

// postpone puts off what could not be had: what is still mapped for half of the
// time that is left, the rest for longer each time.
func (k *keeper) postpone() {
	due := k.due()
	if len(due) == 0 {
		return
	}
	now := time.Now()
	k.probes.done = false
	for _, h := range due {
		h.pause = min(max(2*h.pause, firstPause), longestPause)
		h.due, h.failed = now.Add(h.pause), nil
		if h.mapping.External.IsValid() {
			h.due = now.Add(max(h.mapping.Until.Sub(now)/2, soonest))
		}
	}
	if k.err != nil { // the route may come without a Refresh
		k.mu.Lock()
		k.refresh = true
		k.mu.Unlock()
	}
}
