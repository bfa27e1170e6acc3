package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
)

// wait returns once something is so, or ctx ends.
func (d *Daemon) wait(ctx context.Context, w control.Wait) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	switch w.For {
	case control.WaitReady:
		return nil // before, no request is answered
	case control.WaitPeer:
		return d.awaitPeer(ctx, w.What)
	case control.WaitService:
		return d.awaitService(ctx, w.What)
	}
	return badRequestf("%.80q is nothing to wait for: want %s, %s or %s", w.For, control.WaitReady, control.WaitPeer, control.WaitService)
}

func (d *Daemon) awaitPeer(ctx context.Context, who string) error {
	if _, err := overlay.ParseTarget(who + "/any"); err != nil || who == "" { // any service will do: only the member counts
		return badRequestf("%.80q is neither a member's name nor a peer ID", who)
	}
	for members := range d.mesh.Watch(ctx) {
		up := func(m overlay.Member) bool { return (m.Up || m.Self) && isMember(m, who) }
		if slices.ContainsFunc(members, up) {
			return nil
		}
	}
	return d.notYet(ctx, "member "+who)
}

func isMember(m overlay.Member, who string) bool {
	if m.Name == who {
		return true
	}
	id, err := peer.Decode(who)
	return err == nil && id == m.ID
}

// askAgain is how often members are asked whether they offer a service by now: they
// don't say so by themselves.
const askAgain = 500 * time.Millisecond

func (d *Daemon) awaitService(ctx context.Context, target string) error {
	t, err := overlay.ParseTarget(target)
	if err != nil {
		return err
	}
	named := func(m overlay.Member) bool {
		return (t.Member == "" || t.Member == m.Name) && (t.ID == "" || t.ID == m.ID)
	}
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for {
		for _, a := range d.askAll(ctx, named) {
			if slices.ContainsFunc(a.services, func(s overlay.Service) bool { return s.Is(t.Service) }) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return d.notYet(ctx, "service "+target)
		}
	}
}

// notYet says that what was waited for has not come.
func (d *Daemon) notYet(ctx context.Context, what string) error {
	if d.ctx.Err() != nil {
		return errDown
	}
	return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
}
