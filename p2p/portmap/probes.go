package portmap

import (
	"context"
	"slices"
	"sync"
	"time"
)

// probes are what finds out which protocols the router speaks, while the keeper
// goes on with what it has.
type probes struct {
	wg      sync.WaitGroup
	cancel  context.CancelFunc
	results chan result
	pending int
	able    []client         // that answered, and are still to be asked for mappings
	ripe    <-chan time.Time // when those are; nil if they are
	done    bool             // what is due has had its probes
}

// A result is what a probe found.
type result struct {
	client client
	reply  reply
	err    error
}

// probe asks in all ways at once.
func (k *keeper) probe() {
	ctx, cancel := context.WithCancel(k.ctx)
	p := &k.probes
	p.cancel, p.done = cancel, true
	p.pending = len(k.clients)
	p.results = make(chan result, p.pending) // so that none of them waits
	results := p.results
	for _, c := range k.clients {
		p.wg.Go(func() {
			r, err := c.probe(ctx)
			results <- result{c, r, err}
		})
	}
}

// abandon forgets probes that are under way.
func (p *probes) abandon() {
	if p.cancel != nil {
		p.cancel()
	}
	p.cancel, p.results, p.pending, p.able, p.ripe, p.done = nil, nil, 0, nil, nil, false
}

// heard takes in what a probe found.
func (k *keeper) heard(r result) {
	p := &k.probes
	p.pending--
	k.note(k.ctx, r.client.protocol(), r.reply, r.err)
	if r.err == nil {
		if len(p.able) == 0 {
			p.ripe = time.After(grace)
		}
		p.able = append(p.able, r.client)
	}
	if p.pending == 0 {
		p.ripe = nil
		p.cancel()
	}
}

// take returns those that are to be asked now, the preferred one first.
func (p *probes) take() []client {
	if p.ripe != nil {
		return nil
	}
	able := p.able
	p.able = nil
	slices.SortFunc(able, func(a, b client) int { return int(a.protocol()) - int(b.protocol()) })
	return able
}
