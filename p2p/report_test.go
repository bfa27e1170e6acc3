package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/multiformats/go-multiaddr"
)

func TestOutcomeOf(t *testing.T) {
	call := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
	}
	for _, tt := range []struct {
		name string
		err  error
		want Outcome
	}{
		{"it worked", nil, Connected},
		{"nobody listens", call(syscall.ECONNREFUSED), Refusing},
		{"TCP was refused at this port", errNobodyThere, Refusing},
		{"the network has no way", call(syscall.ENETUNREACH), NoRoute},
		{"a router has no way", call(syscall.EHOSTUNREACH), NoRoute},
		{"no address to send from", call(syscall.EADDRNOTAVAIL), NoRoute},
		{"a firewall here", call(syscall.EPERM), Blocked},
		{"a policy here", call(syscall.EACCES), Blocked},
		{"the kernel gave up", call(syscall.ETIMEDOUT), TimedOut},
		{"the dial's time ran out", context.DeadlineExceeded, TimedOut},
		{"a read's time ran out", os.ErrDeadlineExceeded, TimedOut},
		{"it was called off", context.Canceled, TimedOut},
		{"it goes on", errNoAnswer, TimedOut},
		{"another key", fmt.Errorf("tls: %w", sec.ErrPeerIDMismatch{Expected: "a", Actual: "b"}), WrongKey},
		{"not admitted", fmt.Errorf("gate: %w", &RefusedError{}), NotAdmitted},
		{"put out by the gate", swarm.ErrGaterDisallowedConnection, NotAdmitted},
		{"not at the relay", fmt.Errorf("circuit: %w", &RelayError{circuitpb.Status_NO_RESERVATION}), NoRelay},
		{"something else", errors.New("why"), Failed},
		{"it was reset", call(syscall.ECONNRESET), Failed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := outcomeOf(tt.err); got != tt.want {
				t.Errorf("outcomeOf(%v) = %v, want %v", tt.err, got, tt.want)
			}
		})
	}
}

// What came of dialing, as it is told.
func TestWhy(t *testing.T) {
	for _, tt := range []struct {
		name  string
		where func(t *testing.T, n *Node) (peer.ID, string)
		want  Outcome
	}{
		{"nobody listens", func(t *testing.T, _ *Node) (peer.ID, string) { return strangerID(t), closedTCP(t) }, Refusing},
		{"nobody answers", func(t *testing.T, _ *Node) (peer.ID, string) { return strangerID(t), silentTCP(t) }, TimedOut},
		{"somebody else is there", func(t *testing.T, _ *Node) (peer.ID, string) {
			return strangerID(t), newTestNode(t, Config{Admission: secret("word")}).Addrs()[0].String()
		}, WrongKey},
		{"not admitted", func(t *testing.T, _ *Node) (peer.ID, string) {
			other := newTestNode(t, Config{Admission: secret("another")})
			return other.ID(), other.Addrs()[0].String()
		}, NotAdmitted},
		{"connected", func(t *testing.T, _ *Node) (peer.ID, string) {
			other := newTestNode(t, Config{Admission: secret("word")})
			return other.ID(), other.Addrs()[0].String()
		}, Connected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newTestNode(t, Config{Admission: secret("word"), DialTimeout: time.Second})
			id, at := tt.where(t, n)
			addr := multiaddr.StringCast(at)
			n.NoteSource(id, SourceStart, addr)
			before := time.Now()
			err := n.Connect(testContext(t), id, addr)
			if (err == nil) != (tt.want == Connected) {
				t.Errorf("Connect = %v, want %v", err, tt.want)
			}
			r := n.Why(id)
			if r.Peer != id || (len(r.Connections) == 0) != (err != nil) || r.Upgrade != nil {
				t.Errorf("Why = %+v, want it of %v, with a connection if there is one", r, id)
			}
			if len(r.Addrs) == 0 {
				t.Fatal("Why tells of no address")
			}
			a := r.Addrs[0]
			if !a.Addr.Equal(addr) || a.Path != PathLAN || a.Source != SourceStart || a.Outcome != tt.want || a.Tried.Before(before) {
				t.Errorf("Why tells of %+v, want %v, %v, %v, tried since %v", a, addr, SourceStart, tt.want, before)
			}
			if (a.Err == nil) != (tt.want == Connected) {
				t.Errorf("Why tells of the error %v, want one unless it is connected", a.Err)
			}
		})
	}
	t.Run("never heard of", func(t *testing.T) {
		n := newTestNode(t, Config{})
		if r := n.Why(strangerID(t)); len(r.Addrs)+len(r.Connections) > 0 || r.Upgrade != nil || r.RTT != 0 {
			t.Errorf("Why = %+v, want nothing", r)
		}
	})
	t.Run("not tried", func(t *testing.T) {
		n, id := newTestNode(t, Config{}), strangerID(t)
		n.Host().Peerstore().AddAddrs(id, addrs("/ip4/8.8.4.4/tcp/1", "/ip4/192.168.1.7/tcp/1"), patience)
		r := n.Why(id)
		if len(r.Addrs) != 2 || r.Addrs[0].Path != PathLAN || r.Addrs[1].Path != PathDirect {
			t.Fatalf("Why = %+v, want the address on the LAN, then the other", r)
		}
		for _, a := range r.Addrs {
			if a.Outcome != NotTried || !a.Tried.IsZero() || a.Source != "" || a.Err != nil {
				t.Errorf("Why tells of %+v, want it not tried, from nobody knows where", a)
			}
		}
	})
	t.Run("through a relay that does not have the peer", func(t *testing.T) {
		n, relay, id := newTestNode(t, Config{}), newOutsideNode(t, Config{}), strangerID(t)
		if err := n.Connect(testContext(t), id, throughRelay(relay, nil)...); err == nil {
			t.Error("Connect = nil, want an error")
		}
		r := n.Why(id)
		if len(r.Addrs) != 1 || r.Addrs[0].Outcome != NoRelay || r.Addrs[0].Path != PathRelay {
			t.Errorf("Why = %+v, want %v", r, NoRelay)
		}
	})
}

// Who told of an address first stays its source.
func TestAddrSources(t *testing.T) {
	s, at := newAddrSources(), addrs("/ip4/203.0.113.7/tcp/1", "/ip4/203.0.113.7/tcp/2")
	s.note("a", SourceDHT, at[:1])
	s.note("a", SourceLAN, at)
	for i, want := range []string{SourceDHT, SourceLAN} {
		if got := s.of("a", at[i]); got != want {
			t.Errorf("of(%v) = %q, want %q", at[i], got, want)
		}
	}
	if got := s.of("b", at[0]); got != "" {
		t.Errorf("of another peer = %q, want nothing", got)
	}
	for i := range 2 * maxSources {
		s.note("c", SourceDHT, addrs(fmt.Sprintf("/ip6/2001:db8::%x/tcp/1", i)))
	}
	if len(s.by) > maxSources {
		t.Errorf("%d sources are kept, want %d at most", len(s.by), maxSources)
	}
}

func TestReport(t *testing.T) {
	n := newTestNode(t, Config{Listen: both})
	r := n.Report()
	if r.NAT4.Mapping != MappingUnknown || r.NAT4.UDP != Unknown || r.Reachable != Unknown || len(r.Relays)+len(r.Refused) > 0 {
		t.Errorf("Report of a node that is alone = %+v, want nothing known", r)
	}
	if r.Relaying.Off || r.Relaying.Bytes != 0 {
		t.Errorf("Report().Relaying = %+v, want it on, with nothing carried", r.Relaying)
	}
	if len(r.Addrs) != len(both) {
		t.Errorf("Report().Addrs = %v, want %d", r.Addrs, len(both))
	}
	other := newOutsideNode(t, Config{})
	seen := newOutsideNode(t, Config{})
	connected(t, seen, other)
	seen.Look(testContext(t))
	if r := seen.Report(); r.NAT4.UDP != Yes || r.NAT4.TCP != Yes || r.NAT4.Mapping != MappingNone || r.NAT6.UDP != Unknown {
		t.Errorf("Report after Look = %+v, want UDP, TCP and no NAT by IPv4", r)
	}
}
