package overlay

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p-pubsub"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
)

// A speaker is a member in a test: a key, and a credential that is about it.
type speaker struct {
	mesh credential.MeshID
	key  ed25519.PrivateKey
	own  *credential.Credential
}

// rootOf returns the root of a mesh, made of a seed.
func rootOf(t testing.TB, seed byte) *credential.Root {
	t.Helper()
	root, err := credential.RootFromKey(seeded(seed))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// newFounder makes the founder of the mesh of a root.
func newFounder(t testing.TB, root *credential.Root, key ed25519.PrivateKey, name string, now time.Time) speaker {
	t.Helper()
	own, err := root.Found(rand.Reader, now, publicOf(key), name)
	if err != nil {
		t.Fatal(err)
	}
	return speaker{root.Mesh(), key, own}
}

// admit makes another member, on terms.
func (s speaker) admit(t testing.TB, key ed25519.PrivateKey, now time.Time, terms credential.Terms) speaker {
	t.Helper()
	issuer, err := credential.NewIssuer(s.mesh, s.key, s.own)
	if err != nil {
		t.Fatal(err)
	}
	own, err := issuer.IssueNode(rand.Reader, now, publicOf(key), terms)
	if err != nil {
		t.Fatal(err)
	}
	return speaker{s.mesh, key, own}
}

func (s speaker) says(t testing.TB, seq uint64, leaving bool) []byte {
	t.Helper()
	data, err := presence{Credential: s.own.Marshal(), Seq: seq, Leaving: leaving}.sign(s.mesh, s.key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newListening makes a Mesh that can take in presence statements and no more.
func newListening(mesh credential.MeshID) *Mesh {
	return &Mesh{id: mesh, revoked: must(loadRevoked(newMemoryStore(), mesh)), roster: newRoster(), changed: make(chan struct{}), log: slog.New(slog.DiscardHandler)}
}

// judge parses and verifies a statement.
func judge(data []byte, mesh credential.MeshID, now time.Time) (credential.Member, error) {
	p, err := parsePresence(data)
	if err != nil {
		return credential.Member{}, err
	}
	m, _, err := p.verify(mesh, now)
	if err != nil {
		return credential.Member{}, err
	}
	return *m, nil
}

func TestPresenceIsVerified(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	for _, leaving := range []bool{false, true} {
		data := alice.says(t, 7, leaving)
		if len(data) > maxPresence {
			t.Errorf("a statement has %d bytes, want at most %d", len(data), maxPresence)
		}
		p, err := parsePresence(data)
		if err != nil || p.Seq != 7 || p.Leaving != leaving {
			t.Errorf("parsePresence = %+v, %v, want number 7, leaving %v", p, err, leaving)
		}
		m, _, err := p.verify(alice.mesh, now)
		if err != nil || m.Name != "alice" || m.ID != peerOf(t, 2) {
			t.Errorf("verify = %+v, %v, want alice", m, err)
		}
	}
}

// The longest credential there is fits a statement.
func TestPresenceOfLongestCredential(t *testing.T) {
	data, err := presence{
		Credential: make([]byte, credential.MaxSize), Seq: math.MaxUint64, Leaving: true,
	}.sign(credential.MeshID{}, seeded(2))
	if err != nil || len(data) > maxPresence {
		t.Errorf("sign = %d bytes, %v, want at most %d", len(data), err, maxPresence)
	}
	if _, err := parsePresence(data); err != nil {
		t.Errorf("parsePresence = %v, want nil", err)
	}
}

func TestPresenceIsRefused(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	bob := alice.admit(t, seeded(3), now, credential.Terms{Name: "bob"})
	stranger := newFounder(t, rootOf(t, 4), seeded(2), "alice", now)
	expired := newFounder(t, rootOf(t, 1), seeded(2), "alice", now.Add(-credential.FounderLifetime-time.Hour))
	early := newFounder(t, rootOf(t, 1), seeded(2), "alice", now.Add(time.Hour))
	forgery := speaker{alice.mesh, bob.key, alice.own} // bob with alice's credential
	elsewhere := speaker{stranger.mesh, alice.key, alice.own}
	unsigned := statement(t, presence{Credential: alice.own.Marshal(), Seq: 1})
	short := statement(t, presence{Credential: alice.own.Marshal(), Seq: 1, Signature: make([]byte, 63)})
	for _, tt := range []struct {
		name string
		data []byte
		want error
	}{
		{"nothing", nil, errPresence},
		{"no statement", []byte("hello"), errPresence},
		{"too long", make([]byte, maxPresence+1), errPresence},
		{"without a signature", unsigned, errPresence},
		{"a short signature", short, errPresence},
		{"with another member's credential", forgery.says(t, 1, false), errPresence},
		{"signed for another mesh", elsewhere.says(t, 1, false), errPresence},
		{"another mesh's", stranger.says(t, 1, false), credential.ErrWrongMesh},
		{"expired", expired.says(t, 1, false), credential.ErrExpired},
		{"not yet valid", early.says(t, 1, false), credential.ErrNotYetValid},
		{"no credential", statement(t, presence{Seq: 1}), credential.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if m, err := judge(tt.data, alice.mesh, now); !errors.Is(err, tt.want) || m.ID != "" {
				t.Errorf("verify = %+v, %v, want nobody and %v", m, err, tt.want)
			}
			mesh := newListening(alice.mesh)
			if fresh, err := mesh.takePresence(tt.data); fresh || err == nil || len(mesh.roster.entries) != 0 {
				t.Errorf("takePresence = %v, %v with %d members, want false, an error and none", fresh, err, len(mesh.roster.entries))
			}
			if got := mesh.receivePresence(tt.data); got != pubsub.ValidationReject {
				t.Errorf("receivePresence = %v, want that it is not passed on", got)
			}
		})
	}
}

// statement encodes a presence as it is.
func statement(t testing.TB, p presence) []byte {
	t.Helper()
	data, err := wire.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Whoever passes a statement on cannot change a bit of it.
func TestPresenceWithAnyBitFlipped(t *testing.T) {
	t.Parallel()
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	data := alice.says(t, 7, true)
	mesh := newListening(alice.mesh)
	for bit := range 8 * len(data) {
		data[bit/8] ^= 1 << (bit % 8)
		if fresh, err := mesh.takePresence(data); fresh || err == nil {
			t.Errorf("takePresence with bit %d flipped = %v, %v, want false and an error", bit, fresh, err)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	if len(mesh.roster.entries) != 0 {
		t.Errorf("after them the roster has %d members, want none", len(mesh.roster.entries))
	}
	if fresh, err := mesh.takePresence(data); !fresh || err != nil {
		t.Errorf("takePresence as it was = %v, %v, want true and nil", fresh, err)
	}
}

func TestPresenceTakesTheNewest(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	mesh := newListening(alice.mesh)
	for _, step := range []struct {
		name    string
		seq     uint64
		leaving bool
		fresh   bool
		up      bool // afterwards
	}{
		{"the first", 10, false, true, true},
		{"the same again", 10, false, false, true},
		{"the same number, leaving", 10, true, false, true},
		{"an older one, leaving", 9, true, false, true},
		{"a newer one", 11, false, true, true},
		{"leaving", 12, true, true, false},
		{"up, but from before", 11, false, false, false},
		{"back", 13, false, true, true},
		{"the largest number", math.MaxUint64, true, true, false},
		{"nothing is larger", 0, false, false, false},
	} {
		fresh, err := mesh.takePresence(alice.says(t, step.seq, step.leaving))
		if err != nil || fresh != step.fresh {
			t.Errorf("%s: takePresence = %v, %v, want %v", step.name, fresh, err, step.fresh)
		}
		if up := mesh.roster.entries[peerOf(t, 2)].up(time.Now(), mesh.roster.window(time.Now())); up != step.up {
			t.Errorf("%s: up = %v, want %v", step.name, up, step.up)
		}
	}
}

func TestReceivePresence(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	mesh := newListening(alice.mesh)
	watched := mesh.changed
	if got := mesh.receivePresence(alice.says(t, 2, false)); got != pubsub.ValidationAccept {
		t.Errorf("receivePresence of news = %v, want that it is passed on", got)
	}
	select {
	case <-watched:
	default:
		t.Error("who watches was not woken by news")
	}
	watched = mesh.changed
	if got := mesh.receivePresence(alice.says(t, 1, true)); got != pubsub.ValidationIgnore {
		t.Errorf("receivePresence of what is old = %v, want that it ends here", got)
	}
	select {
	case <-watched:
		t.Error("who watches was woken by what is old")
	default:
	}
}

// A node passes its own statements on, and is not one of the others.
func TestOwnPresence(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	mesh := newListening(alice.mesh)
	mesh.self = credential.Member{ID: peerOf(t, 2)}
	mesh.credential, mesh.keys = alice.own, &identity{key: alice.key}
	mesh.seq = uint64(now.Add(time.Hour).UnixNano()) // the clock was set back since
	last := mesh.seq
	for range 3 {
		data, err := mesh.ownPresence()
		if err != nil {
			t.Fatal(err)
		}
		p, err := parsePresence(data)
		if err != nil || p.Seq <= last {
			t.Errorf("ownPresence has number %d, %v, want more than %d", p.Seq, err, last)
		}
		last = p.Seq
		if got := mesh.receivePresence(data); got != pubsub.ValidationAccept || len(mesh.roster.entries) != 0 {
			t.Errorf("receivePresence of one's own = %v with %d members, want it passed on and none", got, len(mesh.roster.entries))
		}
	}
}

func FuzzParsePresence(f *testing.F) {
	alice := newFounder(f, rootOf(f, 1), seeded(2), "alice", time.Unix(1767323045, 0))
	f.Add(alice.says(f, 1, false))
	f.Add(alice.says(f, math.MaxUint64, true))
	f.Add([]byte{0xa4})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePresence(data)
		if err != nil {
			return
		}
		if again := statement(t, p); !bytes.Equal(again, data) {
			t.Errorf("parsePresence(%x) is encoded as %x", data, again)
		}
	})
}

// Whatever comes in, only what a member has signed is taken in.
func FuzzTakePresence(f *testing.F) {
	now := time.Now()
	alice := newFounder(f, rootOf(f, 1), seeded(2), "alice", now)
	stranger := newFounder(f, rootOf(f, 4), seeded(2), "alice", now)
	f.Add(alice.says(f, 1, false))
	f.Add(stranger.says(f, 1, false))
	f.Add(statement(f, presence{Credential: alice.own.Marshal(), Seq: 1}))
	f.Fuzz(func(t *testing.T, data []byte) {
		mesh := newListening(alice.mesh)
		fresh, err := mesh.takePresence(data)
		if taken := len(mesh.roster.entries) > 0; taken != fresh || fresh != (err == nil) {
			t.Errorf("takePresence(%x) = %v, %v, taken in: %v", data, fresh, err, taken)
		}
		if p, _ := parsePresence(data); fresh && !signedBy(t, p, alice) {
			t.Errorf("takePresence(%x) = true, want it only for what alice said", data)
		}
	})
}

func signedBy(t testing.TB, p presence, s speaker) bool {
	t.Helper()
	message, err := p.signed(s.mesh)
	if err != nil {
		t.Fatal(err)
	}
	return ed25519.Verify(publicOf(s.key), message, p.Signature)
}
