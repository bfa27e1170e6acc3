package e2e

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// revokeBound is what the design allows from the order to revoke until the last
// byte, at the 95th percentile.
const revokeBound = 5 * time.Second

// On 16 processes, over each transport, members are revoked that send to all the
// others without a pause. Each of their streams ends, soon, and the others' don't.
func TestRevokeOnManyNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 16 processes")
	}
	const nodes, victims = 16, 4
	listens := []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/ws"}
	all := make([]*node, nodes)
	sinks := make([]*sink, nodes)
	var invite string
	for i := range all {
		all[i] = newNode(t, fmt.Sprintf("n%d", i))
		listen := []string{"--no-local", "--listen", listens[i%len(listens)]}
		if i == 0 {
			all[i].up(listen...)
			invite = all[i].invite()
		} else {
			all[i].join(invite, listen...)
		}
		sinks[i] = newSink(t)
		all[i].run("expose", "sink", sinks[i].addr)
	}
	var took []time.Duration
	for v := nodes - 1; v >= nodes-victims; v-- {
		took = append(took, revokeOne(t, all[:v], sinks[:v], all[v])...)
	}
	slices.Sort(took)
	p95 := took[len(took)*95/100]
	t.Logf("%d streams to %d members end after p50 %v, p95 %v, max %v", len(took), nodes-1, took[len(took)/2], p95, took[len(took)-1])
	if p95 > revokeBound {
		t.Errorf("95 of 100 streams end within %v, want %v", p95, revokeBound)
	}
	if err := all[1].greetSink(t, "n2"); err != nil {
		t.Errorf("a member that is not revoked: %v", err)
	}
}

// revokeOne has the victim send to all the others, revokes it, and returns how
// long after that each of the streams ended.
func revokeOne(t *testing.T, others []*node, sinks []*sink, victim *node) []time.Duration {
	t.Helper()
	ctx := testContext(t)
	var senders sync.WaitGroup
	arrivals := make([]*arrival, len(others))
	for i, o := range others {
		s, err := victim.dial(ctx, o.name+"/sink")
		if err != nil {
			t.Fatal(err)
		}
		senders.Go(func() {
			defer s.Close()
			block := []byte(strings.Repeat("x", 512))
			for {
				if _, err := s.Write(block); err != nil {
					return
				}
			}
		})
		arrivals[i] = <-sinks[i].arrivals
		<-arrivals[i].begun
	}
	start := time.Now()
	others[0].run("revoke", victim.name)
	took := make([]time.Duration, len(others))
	for i, a := range arrivals {
		select {
		case <-a.ended:
		case <-ctx.Done():
			t.Fatalf("%s still gets bytes from %s, which is revoked", others[i].name, victim.name)
		}
		took[i] = max(a.last.Sub(start), 0)
	}
	senders.Wait()
	if err := victim.cmd.Wait(); err == nil || !strings.Contains(victim.stderr.String(), "revoked") {
		t.Errorf("the process of the revoked ends with %v and says %q, want a failure that says revoked", err, victim.stderr)
	}
	return took
}

// A sink reads what comes in, and tells when the last byte of each connection
// did.
type sink struct {
	addr     string
	arrivals chan *arrival
}

type arrival struct {
	begun, ended chan struct{}
	last         time.Time // of a byte; to be read once ended is closed
}

func newSink(t testing.TB) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{l.Addr().String(), make(chan *arrival, 64)}
	handleEach(t, l, func(c net.Conn) {
		a := &arrival{begun: make(chan struct{}), ended: make(chan struct{})}
		s.arrivals <- a
		a.read(c)
	})
	return s
}

func (a *arrival) read(c net.Conn) {
	defer close(a.ended)
	block := make([]byte, 64<<10)
	for first := true; ; first = false {
		if _, err := c.Read(block); err != nil {
			return
		}
		a.last = time.Now()
		if first {
			close(a.begun)
		}
	}
}

// greetSink sends a byte to another's sink.
func (n *node) greetSink(t testing.TB, other string) error {
	s, err := n.dial(testContext(t), other+"/sink")
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = io.WriteString(s, "x")
	return err
}
