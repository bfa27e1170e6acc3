package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrOnlyRelay says that a peer is reached through a relay alone, where that was not
// good enough.
var ErrOnlyRelay = errors.New("only reached through a relay")

// directKey is under which a context says how long to wait for a path that is no
// relay's.
type directKey struct{}

// DirectOnly returns a context with which a dial fails with [ErrOnlyRelay] rather than
// go through a relay. It waits until a direct path has been looked for once, for at
// most 5 seconds.
func DirectOnly(ctx context.Context) context.Context { return WaitDirect(ctx, directPatience) }

// WaitDirect is DirectOnly that waits for a direct path for as long as d.
func WaitDirect(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, directKey{}, d)
}

// AnyPath returns a context with which a dial takes the path that there is, as one with
// neither DirectOnly nor WaitDirect.
func AnyPath(ctx context.Context) context.Context {
	return context.WithValue(ctx, directKey{}, nil)
}

// directPatience is for two tries, see upgradeWaits.
const directPatience = 5 * time.Second

// awaitDirect waits until there is a path to a peer that is no relay's, if ctx asks
// for one.
func (n *Node) awaitDirect(ctx context.Context, id peer.ID) error {
	d, asked := ctx.Value(directKey{}).(time.Duration)
	if !asked || n.PathTo(id) != PathRelay {
		return nil
	}
	n.upgrades.start(id)
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		changed := n.connsChanged()
		switch n.PathTo(id) {
		case PathRelay:
		case PathUnknown:
			return fmt.Errorf("%w: the connection was lost while a direct one was looked for", ErrOnlyRelay)
		default:
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("%w after %v: %s", ErrOnlyRelay, d, n.whyRelay(id))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// whyRelay says why there is no direct path to a peer.
func (n *Node) whyRelay(id peer.ID) string {
	u, ok := n.Upgraded(id)
	if !ok {
		return "none was looked for yet"
	}
	return u.Reason()
}

// Reason says in words why there is no better path, as far as that is known.
func (u Upgrade) Reason() string {
	switch {
	case u.Path != PathRelay && u.Path != PathUnknown:
		return "there is a " + u.Path.String() + " path"
	case u.Err != nil:
		return fmt.Sprintf("it could not be looked for: %v", u.Err)
	case u.blocked(u.Here):
		return "UDP does not get out of this network, and nobody can connect to the other by TCP"
	case u.blocked(u.There):
		return "UDP does not get out of the other's network, and nobody can connect to this node by TCP"
	case u.Punchable == No:
		return fmt.Sprintf("no hole can be punched between these two NATs: here ports are %s and filtering is by %s, there %s and %s",
			portsWord(u.Here), filterWord(u.Here), portsWord(u.There), filterWord(u.There))
	case u.Punchable == Yes:
		return fmt.Sprintf("none of the other's addresses answered in %d tries, though a hole can be punched between these two NATs", u.Tries)
	}
	return fmt.Sprintf("none of the other's addresses answered in %d tries; what NATs there are is not known", u.Tries)
}

func (Upgrade) blocked(n [2]NAT) bool {
	return n[0].UDP == No && n[1].UDP != Yes
}

// family returns the NAT of the family that more is known of.
func family(n [2]NAT) NAT {
	if n[0].Mapping == MappingUnknown {
		return n[1]
	}
	return n[0]
}

func portsWord(n [2]NAT) string {
	switch family(n).Mapping {
	case MappingNone:
		return "not translated"
	case MappingSame:
		return "the same for all destinations"
	case MappingDependent:
		return "others for each destination"
	}
	return "unknown"
}

func filterWord(n [2]NAT) string {
	switch family(n).Filtering {
	case FilteringNone:
		return "nothing"
	case FilteringAddress:
		return "address"
	case FilteringPort:
		return "address and port"
	}
	return "something unknown"
}
