package daemon

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
)

const (
	// askWidth is how many members are asked at once for what they offer.
	askWidth = 16

	// askTimeout bounds each: a member that is up answers in a round trip or two.
	askTimeout = 3 * time.Second
)

// services tells what the members that are up offer to this node, and what it offers
// itself. Members are asked, so it takes as long as the slowest of them.
func (d *Daemon) services(ctx context.Context) control.Services {
	var mu sync.Mutex // guards out
	out := control.Services{Version: control.Version, Offered: []control.Offered{}}
	slots := make(chan struct{}, askWidth)
	var wg sync.WaitGroup
	for _, m := range d.mesh.Members() {
		if !m.Up && !m.Self {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			names, err := d.ask(ctx, m)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.Unasked = append(out.Unasked, control.Unasked{Member: m.Name, ID: m.ID.String(), Error: err.Error()})
			}
			for _, name := range names {
				out.Offered = append(out.Offered, control.Offered{Member: m.Name, ID: m.ID.String(), Service: name, Self: m.Self})
			}
		})
	}
	wg.Wait()
	slices.SortFunc(out.Offered, func(a, b control.Offered) int {
		return cmp.Or(cmp.Compare(a.Member, b.Member), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Service, b.Service))
	})
	slices.SortFunc(out.Unasked, func(a, b control.Unasked) int {
		return cmp.Or(cmp.Compare(a.Member, b.Member), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (d *Daemon) ask(ctx context.Context, m overlay.Member) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return d.mesh.ServicesOf(ctx, m.ID.String())
}
