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
// itself.
func (d *Daemon) services(ctx context.Context) control.Services {
	out := control.Services{Version: control.Version, Offered: []control.Offered{}}
	for _, a := range d.askAll(ctx, func(overlay.Member) bool { return true }) {
		if a.err != nil {
			out.Unasked = append(out.Unasked, control.Unasked{Member: a.of.Name, ID: a.of.ID.String(), Error: a.err.Error()})
		}
		for _, s := range a.services {
			out.Offered = append(out.Offered, control.Offered{Member: a.of.Name, ID: a.of.ID.String(), Offer: offerView(s), Self: a.of.Self})
		}
	}
	return out
}

func offerView(s overlay.Service) control.Offer {
	v := control.Offer{Service: s.Name, Kind: s.Kind.String()}
	if s.Name == overlay.PortsService {
		v.Ports = s.Ports.String()
	}
	return v
}

// An answer is what a member offers, or why that is not known.
type answer struct {
	of       overlay.Member
	services []overlay.Service
	err      error
}

// askAll asks the members that are up and wanted, this node among them, for what they
// offer. It takes as long as the slowest. They come by name.
func (d *Daemon) askAll(ctx context.Context, want func(overlay.Member) bool) []answer {
	all := slices.DeleteFunc(d.mesh.Members(), func(m overlay.Member) bool { return !m.Up && !m.Self || !want(m) })
	slices.SortFunc(all, func(a, b overlay.Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	out := make([]answer, len(all))
	slots := make(chan struct{}, askWidth)
	var wg sync.WaitGroup
	for i, m := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			services, err := d.mesh.ServicesOf(ctx, m.ID.String())
			out[i] = answer{m, services, err}
		})
	}
	wg.Wait()
	return out
}
