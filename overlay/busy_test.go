package overlay

import (
	"errors"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// When as many streams wait as may, the next is told so, and the one after
// somebody accepted is not.
func TestServiceThatIsSlowToAccept(t *testing.T) {
	t.Parallel()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	alice := mustOpenAs(t, founder)
	bob := mustOpenAs(t, founder.admit(t, seeded(3), now, credential.Terms{Name: "bob"}), full(t, alice))
	l, err := alice.Listen("web")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if cap(l.pending) != maxPending {
		t.Errorf("%d streams may wait, want %d", cap(l.pending), maxPending)
	}
	alice.mu.Lock()
	l.pending = make(chan *Conn, 3) // before anybody dials
	alice.mu.Unlock()
	await(t, "the service can be found", l.Found())
	for range 3 {
		c, err := bob.Dial(testContext(t), "alice/web")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for _, from := range []*Mesh{bob, alice} {
		for _, target := range []string{"alice/web", "/web"} {
			if _, err := from.Dial(testContext(t), target); !errors.Is(err, ErrBusy) {
				t.Errorf("Dial(%s) with as many waiting as may = %v, want %v", target, err, ErrBusy)
			}
		}
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted.Close()
	c, err := bob.Dial(testContext(t), "alice/web")
	if err != nil {
		t.Fatalf("Dial after one was accepted = %v, want nil", err)
	}
	c.Close()
}

// What a peer sends in place of a request gets no answer.
func TestStreamWithoutARequest(t *testing.T) {
	t.Parallel()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	alice := mustOpenAs(t, founder)
	bob := mustOpenAs(t, founder.admit(t, seeded(3), now, credential.Terms{Name: "bob"}), full(t, alice))
	for _, tt := range []struct {
		name string
		send []byte
	}{
		{"nothing", nil},
		{"cut off", []byte{0, 6, 0xa1}},
		{"too long", []byte{0xff, 0xff}},
		{"no request", []byte{0, 1, 0xa0}},
		{"no name of a service", framed(t, "a10160")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := bob.node.Dial(testContext(t), alice.node.ID(), streamProtocol)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_ = s.SetDeadline(time.Now().Add(patience))
			if _, err := s.Write(tt.send); err != nil {
				t.Fatal(err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, p2p.ErrReset) {
				t.Errorf("Read = %d bytes, %v, want %v", n, err, p2p.ErrReset)
			}
		})
	}
}
