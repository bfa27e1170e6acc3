package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// killRounds is how often an admin is killed while two nodes want to use the same
// invite, which is for one.
const killRounds = 100

// Two admins are up, and two nodes dial both. One of the admins is killed at some
// moment and comes back. One of the two nodes gets in, and never both.
func TestAdminKilledWhileInviteIsUsed(t *testing.T) {
	t.Parallel()
	rounds := killRounds
	if testing.Short() {
		rounds = 5
	}
	alice := open(t, onLoopback(overlay.Config{Name: "alice", Dir: t.TempDir()}))
	admin := invite(t, alice, overlay.InviteOptions{Roles: credential.DefaultRoles | credential.RoleAdmin})
	other := overlaytest.Join(t, "other", admin)
	waitMembers(t, alice, "the other admin is up", func(members []overlay.Member) bool { return len(members) == 2 && members[1].Up })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	moment := rand.New(rand.NewPCG(seed, 0))
	var first, second int
	for round := range rounds {
		// Start lists the other admin too, as it is connected.
		text := invite(t, alice, overlay.InviteOptions{Uses: 1})
		names := []string{fmt.Sprintf("a%d", round), fmt.Sprintf("b%d", round)}
		kill := time.After(time.Duration(moment.Int64N(int64(40 * time.Millisecond))))
		var redeemers sync.WaitGroup
		joined := make([]*overlay.Mesh, len(names))
		errs := make([]error, len(names))
		for i, name := range names {
			redeemers.Go(func() { joined[i], errs[i] = joinUntilTold(t, text, name) })
		}
		<-kill
		other.Kill()
		other.Restart()
		redeemers.Wait()
		var in []peer.ID
		for i, m := range joined {
			if m == nil {
				checkIs(t, names[i]+" joins", errs[i], overlay.ErrInviteUsed)
				continue
			}
			in = append(in, m.Self().ID)
			if i == 0 {
				first++
			} else {
				second++
			}
		}
		if len(in) != 1 {
			t.Errorf("round %d: %d nodes got in by an invite for one, errors %v", round, len(in), errs)
		}
		for _, m := range joined {
			if m == nil {
				continue
			}
			if err := errors.Join(m.Leave(testContext(t)), m.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("%d rounds: the one got in %d times, the other %d times", rounds, first, second)
}

// joinUntilTold tries again for as long as nobody says yes or no.
func joinUntilTold(t testing.TB, text, name string) (*overlay.Mesh, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir() // the same node each time
	for {
		m, err := overlay.Join(ctx, text, onLoopback(overlay.Config{Name: name, Dir: dir}))
		if err == nil || errors.Is(err, overlay.ErrInviteUsed) || ctx.Err() != nil {
			return m, err
		}
	}
}
