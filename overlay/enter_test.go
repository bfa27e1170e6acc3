package overlay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// Which failures of a start are worth another try.
func TestEnterTriesAgain(t *testing.T) {
	here, away := multiaddr.StringCast("/ip4/127.0.0.1/tcp/1"), tcpPort(1)
	at := func(addr multiaddr.Multiaddr, err error) error {
		return &p2p.DialError{Attempts: []p2p.Attempt{{Addr: addr, Err: err}}}
	}
	refused := func(here bool, why error) error {
		return &p2p.DialError{Err: &p2p.RefusedError{Here: here, Err: why}}
	}
	nobody := at(here, syscall.ECONNREFUSED)
	for _, tt := range []struct {
		name      string
		err       error
		busy, cut bool
	}{
		{"reached", nil, false, false},
		{"nobody to start from", ErrNoMemberReached, false, false},
		{"no address", &p2p.DialError{Err: p2p.ErrNoAddress}, false, false},
		{"nobody there", nobody, false, false},
		{"no answer from another machine", at(away, os.ErrDeadlineExceeded), false, false},
		{"no answer on this machine", at(here, os.ErrDeadlineExceeded), false, true},
		{"hung up", at(away, io.EOF), false, true},
		{"hung up in the handshake", at(away, fmt.Errorf("handshake: %w", io.ErrUnexpectedEOF)), false, true},
		{"reset", at(away, &os.SyscallError{Syscall: "read", Err: syscall.ECONNRESET}), false, true},
		{"busy", refused(false, p2p.RefusedBusy), true, false},
		{"busy, here", refused(true, p2p.RefusedBusy), false, false},
		{"refused for what it is", refused(false, refusedRevoked), false, false},
		{"one of several is busy", errors.Join(nobody, refused(false, p2p.RefusedBusy)), true, false},
		{"one of several hung up", errors.Join(nobody, at(away, io.EOF)), false, true},
		{"gone after it let this node in", fmt.Errorf("enter: %w", errGone), true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if busy, cut := wasBusy(tt.err), wasCut(tt.err); busy != tt.busy || cut != tt.cut {
				t.Errorf("wasBusy, wasCut = %v, %v, want %v, %v", busy, cut, tt.busy, tt.cut)
			}
		})
	}
}

// busyAtFirst admits nobody until it was asked a number of times.
type busyAtFirst struct {
	admitter
	left atomic.Int32
}

func (b *busyAtFirst) verify(c *credential.Credential) (*credential.Member, error) {
	if b.left.Add(-1) >= 0 {
		return nil, &refusalError{p2p.RefusedBusy, errors.New("many come at once")}
	}
	return b.admitter.verify(c)
}

// Who starts from one that is busy gets in once it is not.
func TestJoinFromABusyMember(t *testing.T) {
	t.Parallel()
	alice := mustOpenAs(t, newFounder(t, rootOf(t, 1), seeded(2), "alice", time.Now()))
	busy := &busyAtFirst{admitter: alice}
	busy.left.Store(3)
	alice.admission.admitter = busy // before anybody comes
	if _, err := joinAt(t, alice, alice.Addrs()[0]); err != nil {
		t.Errorf("Join = %v, want nil", err)
	}
	if left := busy.left.Load(); left >= 0 {
		t.Errorf("alice could have been busy %d times more", left+1)
	}
}

// Who starts from one that hangs up, as when too many come at once, gets in once it
// does not.
func TestJoinFromAMemberThatHangsUp(t *testing.T) {
	t.Parallel()
	alice := mustOpenAs(t, newFounder(t, rootOf(t, 1), seeded(2), "alice", time.Now()))
	door := newDoor(t, alice.Addrs()[0], 3)
	if _, err := joinAt(t, alice, door.addr); err != nil {
		t.Errorf("Join = %v, want nil", err)
	}
	if left := door.left.Load(); left > 0 {
		t.Errorf("the door was tried %d times too few", left)
	}
}

// joinAt joins alice's mesh from an address of hers.
func joinAt(t testing.TB, alice *Mesh, addr multiaddr.Multiaddr) (*Mesh, error) {
	t.Helper()
	issuer, _, err := alice.issuer()
	if err != nil {
		t.Fatal(err)
	}
	start := []peer.AddrInfo{{ID: alice.node.ID(), Addrs: []multiaddr.Multiaddr{addr}}}
	inv := must(issuer.IssueInvite(rand.Reader, time.Now(), credential.Terms{NotAfter: time.Now().Add(time.Hour)}, start))
	bob, err := Join(testContext(t), inv.Text(), Config{Name: "bob", Listen: loopback(), NoLocal: true})
	if err == nil {
		t.Cleanup(func() { bob.Close() })
	}
	return bob, err
}

// A door stands before an address, and shuts out those who come first.
type door struct {
	addr multiaddr.Multiaddr
	left atomic.Int32
}

func newDoor(t testing.TB, to multiaddr.Multiaddr, shut int32) *door {
	t.Helper()
	port, err := to.ValueForProtocol(multiaddr.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{addr: multiaddr.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port))}
	d.left.Store(shut)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if d.left.Add(-1) >= 0 {
				c.Close()
				continue
			}
			go through(ctx, c, "127.0.0.1:"+port)
		}
	}()
	return d
}

// through passes on what comes on a connection.
func through(ctx context.Context, c net.Conn, to string) {
	defer c.Close()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	defer context.AfterFunc(ctx, func() { c.Close(); far.Close() })()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(c, far)
		c.Close()
	}()
	_, _ = io.Copy(far, c)
	far.Close()
	<-back
}
