package p2p

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// meetingAdmission admits everybody once two are at the door.
type meetingAdmission struct{ door *sync.WaitGroup }

func (meetingAdmission) Proof(peer.ID) []byte { return nil }

func (m meetingAdmission) Check(peer.ID, []byte) error {
	m.door.Wait()
	return nil
}

// arriving counts one in before it waits.
type arriving struct {
	meetingAdmission
	once *sync.Once
}

func (a arriving) Check(id peer.ID, proof []byte) error {
	a.once.Do(a.door.Done)
	return a.meetingAdmission.Check(id, proof)
}

func TestTwoConnectionsBecomeOne(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stream bool
	}{
		{"without streams", false},
		{"once the stream is closed", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var door sync.WaitGroup
			door.Add(2)
			var nodes [2]*Node
			for i := range nodes {
				n, err := New(Config{Listen: addrs("/ip4/127.0.0.1/tcp/0"), Admission: arriving{meetingAdmission{&door}, new(sync.Once)}})
				if err != nil {
					t.Fatal(err)
				}
				defer n.Close()
				n.settleAfter = time.Second
				nodes[i] = n
			}
			a, b := nodes[0], nodes[1]
			l, err := b.Listen("/x/1")
			if err != nil {
				t.Fatal(err)
			}
			var dials sync.WaitGroup
			dials.Go(func() { check(t, a.Connect(t.Context(), b.ID(), b.Addrs()...)) })
			dials.Go(func() { check(t, b.Connect(t.Context(), a.ID(), a.Addrs()...)) })
			dials.Wait()
			awaitConnections(t, nodes[:], 2)
			if tt.stream {
				s, err := a.Dial(t.Context(), b.ID(), "/x/1")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				far, err := l.AcceptStream()
				if err != nil {
					t.Fatal(err)
				}
				// Closing a connection under a stream would break it.
				if _, err := far.Write([]byte("y")); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				s.Close()
				far.Close()
			}
			awaitConnections(t, nodes[:], 1)
			if _, err := a.Ping(t.Context(), b.ID()); err != nil {
				t.Errorf("Ping over the one that is left = %v", err)
			}
		})
	}
}

// awaitConnections waits until each node has so many.
func awaitConnections(t *testing.T, nodes []*Node, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, n := range nodes {
		got := -1
		for conns := range n.Watch(ctx) {
			if got = len(conns); got == want {
				break
			}
		}
		if got != want {
			t.Fatalf("%d connections, want %d", got, want)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
