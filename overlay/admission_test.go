package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
	"github.com/p2pnode/p2pnode/p2p"
)

// patience bounds what a test waits for. It passes only when a test fails.
const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func loopback() []multiaddr.Multiaddr {
	return []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0")}
}

// openAs runs a node that is a speaker, whatever its credential is worth now.
// At some time it was good.
func openAs(t testing.TB, s speaker, good time.Time, bootstrap ...multiaddr.Multiaddr) (*Mesh, error) {
	t.Helper()
	return openAt(t, s, good, loopback(), bootstrap...)
}

// openAt is openAs that listens at addresses.
func openAt(t testing.TB, s speaker, good time.Time, at []multiaddr.Multiaddr, bootstrap ...multiaddr.Multiaddr) (*Mesh, error) {
	t.Helper()
	member, err := s.own.Verify(s.mesh, good)
	if err != nil {
		t.Fatal(err)
	}
	as := func(store, Config) (*identity, error) {
		return &identity{mesh: s.mesh, key: s.key, credential: s.own, member: *member}, nil
	}
	m, err := open(testContext(t), Config{Listen: at, NoLocal: true, Bootstrap: bootstrap}, as, nil)
	if err == nil {
		t.Cleanup(func() { m.Close() })
	}
	return m, err
}

func mustOpenAs(t testing.TB, s speaker, bootstrap ...multiaddr.Multiaddr) *Mesh {
	t.Helper()
	m, err := openAs(t, s, time.Now(), bootstrap...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// full returns a node's address with its peer ID.
func full(t testing.TB, m *Mesh) multiaddr.Multiaddr {
	t.Helper()
	all, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: m.node.ID(), Addrs: m.Addrs()[:1]})
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// Who is no member is not let in, and told why.
func TestAdmissionRefuses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	past, future := now.Add(-48*time.Hour), now.Add(time.Hour)
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", past)
	bob := founder.admit(t, seeded(3), now, credential.Terms{Name: "bob"})
	alice := mustOpenAs(t, founder)
	for _, tt := range []struct {
		name  string
		comes speaker
		good  time.Time // when its credential is
		want  error
	}{
		{"a member of another mesh", newFounder(t, rootOf(t, 5), seeded(6), "alice", now), now, credential.ErrWrongMesh},
		{"expired", founder.admit(t, seeded(3), past, credential.Terms{Name: "bob", NotAfter: past.Add(time.Hour)}), past, credential.ErrExpired},
		{"not yet valid", founder.admit(t, seeded(3), future, credential.Terms{Name: "bob"}), future, credential.ErrNotYetValid},
		{"another member's credential", speaker{bob.mesh, seeded(7), bob.own}, now, ErrNotMember},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := openAs(t, tt.comes, tt.good, full(t, alice))
			var refused *p2p.RefusedError
			if m != nil || !errors.Is(err, tt.want) || !errors.As(err, &refused) || refused.Here {
				t.Errorf("Open = %v, %v, want %v from the other end", m, err, tt.want)
			}
			if errors.Is(err, ErrNoMemberReached) {
				t.Errorf("Open = %v, want no %v", err, ErrNoMemberReached)
			}
		})
	}
	if got := alice.Members(); len(got) != 1 {
		t.Errorf("afterwards alice sees %+v, want herself alone", got)
	}
	if m := mustOpenAs(t, bob, full(t, alice)); len(m.Members()) != 2 {
		t.Errorf("a member is let in and sees %+v, want both", m.Members())
	}
}

// A node with members of its own says to a stranger's dial what it is, too.
func TestDialRefused(t *testing.T) {
	t.Parallel()
	alice := mustOpenAs(t, newFounder(t, rootOf(t, 1), seeded(2), "alice", time.Now()))
	stranger := mustOpenAs(t, newFounder(t, rootOf(t, 5), seeded(6), "alice", time.Now()))
	stranger.node.Host().Peerstore().AddAddrs(alice.node.ID(), alice.Addrs(), time.Hour)
	target := alice.node.ID().String()
	if _, err := stranger.Dial(testContext(t), target+"/web"); !errors.Is(err, credential.ErrWrongMesh) {
		t.Errorf("Dial of a member of another mesh = %v, want %v", err, credential.ErrWrongMesh)
	}
	if _, _, err := stranger.Ping(testContext(t), target); !errors.Is(err, credential.ErrWrongMesh) {
		t.Errorf("Ping of a member of another mesh = %v, want %v", err, credential.ErrWrongMesh)
	}
}

func TestAdmissionCheck(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	knows := &fakeAdmitter{mesh: alice.mesh}
	a := newAdmission(knows, []byte("own"))
	close(a.ready)
	show := func(proof []byte) []byte { return marshaled(t, shown{Credential: proof}) }
	for _, tt := range []struct {
		name  string
		peer  peer.ID
		proof []byte
		code  p2p.Refusal // 0: admitted
		want  error
	}{
		{"a member", peerOf(t, 2), show(alice.own.Marshal()), 0, nil},
		{"somebody with a member's credential", peerOf(t, 3), show(alice.own.Marshal()), 16, ErrNotMember},
		{"nothing shown", peerOf(t, 2), nil, 16, errNoProof},
		{"something else shown", peerOf(t, 2), []byte("hello"), 16, wire.ErrMalformed},
		{"something else shown as a credential", peerOf(t, 2), show([]byte("hello")), 16, credential.ErrInvalid},
		{"another mesh's member", peerOf(t, 2), show(newFounder(t, rootOf(t, 5), seeded(2), "alice", now).own.Marshal()), 17, credential.ErrWrongMesh},
	} {
		t.Run(tt.name, func(t *testing.T) {
			knows.learned = nil
			err := a.Check(tt.peer, tt.proof)
			var code p2p.Refusal
			errors.As(err, &code)
			if code != tt.code || !errors.Is(err, tt.want) {
				t.Errorf("Check = %v with code %d, want %v with %d", err, code, tt.want, tt.code)
			}
			if admitted := slices.Equal(knows.learned, []string{"alice"}); admitted != (tt.code == 0) || !admitted && knows.learned != nil {
				t.Errorf("Check has learned of %v", knows.learned)
			}
			if tt.code == 16 && !errors.Is(err, ErrNotMember) {
				t.Errorf("Check = %v, want it to be %v", err, ErrNotMember)
			}
		})
	}
	a.renew([]byte("renewed"))
	if got := string(a.Proof("")); got != string(show([]byte("renewed"))) {
		t.Errorf("Proof = %q, want what it was renewed to", got)
	}
}

func marshaled(t *testing.T, v any) []byte {
	t.Helper()
	data, err := wire.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A fakeAdmitter knows of nothing revoked and redeems nothing.
type fakeAdmitter struct {
	mesh    credential.MeshID
	learned []string
}

func (*fakeAdmitter) digest() credential.Hash { return credential.Hash{} }
func (f *fakeAdmitter) verify(c *credential.Credential) (*credential.Member, error) {
	return c.Verify(f.mesh, time.Now())
}
func (*fakeAdmitter) redeem(context.Context, *credential.Credential) ([]byte, error) {
	return nil, ErrNoAdmin
}
func (*fakeAdmitter) adopt([]byte) error { return nil }
func (f *fakeAdmitter) learn(m credential.Member, _ *credential.Credential, _ credential.Hash) error {
	f.learned = append(f.learned, m.Name)
	return nil
}

// Every code on the wire becomes the error it stands for.
func TestExplain(t *testing.T) {
	for code, want := range refusalMeaning {
		err := explain(fmt.Errorf("dial: %w", &p2p.RefusedError{Err: code}))
		if !errors.Is(err, want) || !errors.Is(err, code) {
			t.Errorf("explain(%d) = %v, want %v", code, err, want)
		}
		if again := explain(err); again != err {
			t.Errorf("explain again = %v, want it said once", again)
		}
	}
	for _, err := range []error{nil, io.EOF, &p2p.RefusedError{Err: p2p.RefusedBusy}, &p2p.RefusedError{Err: p2p.Refusal(99)}} {
		if got := explain(err); got != err {
			t.Errorf("explain(%v) = %v, want the same", err, got)
		}
	}
}

// Nobody answers at the addresses there are. The error names them; and Open,
// unlike Join, takes that as it is.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	at := multiaddr.StringCast("/ip4/127.0.0.1/tcp/" + port)
	m, err := Join(testContext(t), inviteAt(t, founder, at).Text(), Config{Listen: loopback(), NoLocal: true})
	if m != nil || !errors.Is(err, ErrNoMemberReached) || !strings.Contains(err.Error(), at.String()) {
		t.Errorf("Join = %v, %v, want %v, naming %v", m, err, ErrNoMemberReached, at)
	}
	bootstrap := multiaddr.Join(at, multiaddr.StringCast("/p2p/"+peerOf(t, 2).String()))
	mustOpenAs(t, founder.admit(t, seeded(3), now, credential.Terms{Name: "bob"}), bootstrap)
}
