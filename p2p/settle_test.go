package p2p

import (
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
				n.settleAfter = 300 * time.Millisecond
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
			if got := len(a.Connections()); got != 2 {
				t.Fatalf("%d connections after both have dialed, want 2", got)
			}
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
			for _, n := range nodes {
				for conns := range n.Watch(t.Context()) {
					if len(conns) == 1 {
						break
					}
				}
			}
			if _, err := a.Ping(t.Context(), b.ID()); err != nil {
				t.Errorf("Ping over the one that is left = %v", err)
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
