package portmap

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// lifetime is what is asked for. A router that forgot is noticed after half of
	// it; a machine that is gone keeps a port for all of it.
	lifetime = 30 * time.Minute

	// A router that gives next to no time isn't asked more often than this.
	soonest = 5 * time.Second

	// Where nothing was to be had, it is asked for again, ever more seldom: what
	// changes it is most often a change of the network, which has its own call.
	firstPause   = time.Minute
	longestPause = time.Hour

	// Answers that come together are taken by preference, not by luck.
	grace = 50 * time.Millisecond

	// farewell is how long Close may take to delete what there is.
	farewell = time.Second
)

// A keeper does a Mapper's work, in one goroutine, which owns all of it.
type keeper struct {
	*Mapper
	up       uplink
	err      error // why there is no gateway
	clients  []client
	chosen   client // the one that works; nil if none does
	attempts map[Protocol]Attempt
	holds    []*hold // in the order that they were asked for
	probes   probes
}

// A hold is a port, and what the router said of it.
type hold struct {
	port
	nonce   [12]byte
	mapping Mapping // External isn't valid if there is none
	due     time.Time
	pause   time.Duration // how long it was put off last
	failed  []Protocol    // that gave none, this time
}

func (k *keeper) run() {
	defer k.leave()
	for {
		timer := time.NewTimer(k.next())
		select {
		case <-k.ctx.Done():
		case <-k.wake:
		case <-timer.C:
		case r := <-k.probes.results:
			k.heard(r)
		case <-k.probes.ripe:
			k.probes.ripe = nil
		}
		timer.Stop()
		if k.ctx.Err() != nil {
			return
		}
		k.turn()
	}
}

// next returns how long there is nothing to do.
func (k *keeper) next() time.Duration {
	wait := longestPause
	for _, h := range k.holds {
		if k.probes.pending == 0 { // else what is due waits for them
			wait = min(wait, time.Until(h.due))
		}
		if h.mapping.External.IsValid() {
			wait = min(wait, time.Until(h.mapping.Until))
		}
	}
	return max(wait, 0)
}

// turn does all that can be done now.
func (k *keeper) turn() {
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	gone, refresh := k.take(cancel)
	k.release(ctx, gone)
	k.expire(time.Now())
	if refresh {
		k.discover()
	}
	k.renew(ctx)
	k.choose(ctx)
	if ctx.Err() == nil && k.probes.pending == 0 && len(k.due()) > 0 {
		if k.err == nil && k.chosen == nil && !k.probes.done {
			k.probe()
		} else {
			k.postpone()
		}
	}
	k.tell()
}

// take learns what others want. What is asked from here on can be abandoned by a
// later Refresh.
func (k *keeper) take(abandon context.CancelFunc) (gone []*hold, refresh bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// A refresh waits for the first port, so that nobody is asked for nothing.
	if refresh = k.refresh && len(k.wanted) > 0; refresh {
		k.refresh = false
	}
	k.abandon = abandon
	var keep []*hold
	for _, h := range k.holds {
		if slices.Contains(k.wanted, h.port) {
			keep = append(keep, h)
		} else {
			gone = append(gone, h)
		}
	}
	for _, p := range k.wanted {
		if !slices.ContainsFunc(keep, func(h *hold) bool { return h.port == p }) {
			keep = append(keep, &hold{port: p, nonce: newNonce()})
		}
	}
	k.holds = keep
	return gone, refresh
}

// discover looks for the gateway. What another one gave is lost.
func (k *keeper) discover() {
	up, err := k.around.uplink()
	if err != nil || up != k.up {
		for _, h := range k.holds {
			h.mapping = Mapping{}
		}
	}
	k.up, k.err, k.chosen, k.clients = up, err, nil, nil
	k.attempts = map[Protocol]Attempt{}
	k.probes.abandon()
	if err == nil {
		k.clients = k.around.clients(up)
	}
	for _, h := range k.holds {
		h.due, h.pause, h.failed = time.Time{}, 0, nil
	}
	k.tell()
}

func (k *keeper) due() []*hold {
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(k.holds), func(h *hold) bool { return h.due.After(now) })
}

// expire drops what the router has dropped by now.
func (k *keeper) expire(now time.Time) {
	for _, h := range k.holds {
		if h.mapping.External.IsValid() && !h.mapping.Until.After(now) {
			k.log.Info("port mapping expired", "proto", h.proto, "port", h.number)
			h.mapping = Mapping{}
		}
	}
}

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

// release deletes mappings, each at the same time as the others.
func (k *keeper) release(ctx context.Context, gone []*hold) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	var wg sync.WaitGroup
	for _, h := range gone {
		i := slices.IndexFunc(k.clients, func(c client) bool { return c.protocol() == h.mapping.By })
		if i < 0 || !h.mapping.External.IsValid() {
			continue
		}
		wg.Go(func() {
			if _, err := k.clients[i].request(ctx, ask{h.proto, h.number, h.mapping.External, 0, h.nonce}); err != nil {
				k.log.Debug("port mapping not deleted", "proto", h.proto, "port", h.number, "err", err)
			}
		})
	}
	wg.Wait()
}

// leave deletes all that there is. The Mapper's own context is done by now, and
// with it what was being asked.
func (k *keeper) leave() {
	k.probes.abandon()
	k.probes.wg.Wait()
	k.release(context.WithoutCancel(k.ctx), k.holds)
	k.holds = nil
	k.tell()
}

// tell publishes what is known.
func (k *keeper) tell() {
	r := Report{Gateway: k.up.gateway, Local: k.up.local, Err: k.err}
	r.Attempts = slices.SortedFunc(maps.Values(k.attempts), func(a, b Attempt) int { return int(a.Protocol) - int(b.Protocol) })
	for _, h := range k.holds {
		if h.mapping.External.IsValid() {
			r.Mappings = append(r.Mappings, h.mapping)
		}
	}
	k.publish(r)
}
