package portmap

import (
	"context"
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
