package overlay

import (
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// restart opens the store of a directory for a moment, as one start of a node
// does.
func restart(t testing.TB, c Config, find finder) (*identity, error) {
	t.Helper()
	if c.Dir == "" {
		return find(newMemoryStore(), c)
	}
	s, err := openStore(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return find(s, c)
}

func mustRestart(t testing.TB, c Config, find finder) *identity {
	t.Helper()
	id, err := restart(t, c, find)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// inviteFrom makes an invite to a founder's mesh.
func inviteFrom(t testing.TB, founder speaker, now time.Time, terms credential.Terms) *credential.Invite {
	t.Helper()
	return issueInvite(t, founder, now, terms, nil)
}

// inviteAt makes an invite that says that the founder is at an address.
func inviteAt(t testing.TB, founder speaker, at multiaddr.Multiaddr) *credential.Invite {
	t.Helper()
	id, err := p2p.PeerID(publicOf(founder.key))
	if err != nil {
		t.Fatal(err)
	}
	return issueInvite(t, founder, time.Now(), credential.Terms{}, []peer.AddrInfo{{ID: id, Addrs: []multiaddr.Multiaddr{at}}})
}

func issueInvite(t testing.TB, founder speaker, now time.Time, terms credential.Terms, start []peer.AddrInfo) *credential.Invite {
	t.Helper()
	issuer, err := credential.NewIssuer(founder.mesh, founder.key, founder.own)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := issuer.IssueInvite(zeros{}, now, terms, start)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// zeros is a source of randomness that makes tests repeatable.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func joiner(inv *credential.Invite) finder {
	return func(s store, c Config) (*identity, error) { return joinIdentity(s, c, inv) }
}

// sameNode sees that two identities are one and the same.
func sameNode(t testing.TB, got, want *identity) {
	t.Helper()
	if !got.key.Equal(want.key) || got.mesh != want.mesh || got.member.Name != want.member.Name {
		t.Errorf("identity is %v of mesh %v, %q, want %v of %v, %q",
			got.member.ID, got.mesh, got.member.Name, want.member.ID, want.mesh, want.member.Name)
	}
}

func TestFoundAndResume(t *testing.T) {
	c := Config{Dir: filepath.Join(t.TempDir(), "alice"), Name: "alice"}
	first := mustRestart(t, c, openIdentity)
	if m := first.member; m.Name != "alice" || !m.Roles.Has(credential.RoleAdmin) || first.root == nil || first.root.Mesh() != first.mesh {
		t.Errorf("the founder is %+v with root %v, want alice, an admin, with the mesh's root", m, first.root)
	}
	for _, c := range []Config{c, {Dir: c.Dir}} {
		again := mustRestart(t, c, openIdentity)
		sameNode(t, again, first)
		if again.root == nil || string(again.credential.Marshal()) != string(first.credential.Marshal()) {
			t.Errorf("resumed with root %v and another credential, want the same", again.root)
		}
	}
	other := mustRestart(t, Config{Dir: t.TempDir()}, openIdentity)
	if other.mesh == first.mesh || other.key.Equal(first.key) {
		t.Error("another directory holds the same mesh or key, want others")
	}
}

func TestEphemeralIdentities(t *testing.T) {
	a, b := mustRestart(t, Config{}, openIdentity), mustRestart(t, Config{}, openIdentity)
	if a.mesh == b.mesh || a.key.Equal(b.key) || a.member.Name == b.member.Name {
		t.Errorf("two ephemeral nodes are %v and %v, want all of it to differ", a.member, b.member)
	}
	if err := credential.CheckName(a.member.Name); err != nil {
		t.Errorf("default name: %v", err)
	}
}

func TestJoinAndResume(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	inv := inviteFrom(t, alice, now, credential.Terms{})
	c := Config{Dir: t.TempDir(), Name: "bob"}
	first := mustRestart(t, c, joiner(inv))
	if m := first.member; first.mesh != alice.mesh || m.Name != "bob" || m.Roles != credential.DefaultRoles || !m.ByInvite() {
		t.Errorf("joined mesh %v as %+v, want %v as bob", first.mesh, m, alice.mesh)
	}
	t.Run("by the same invite", func(t *testing.T) { sameNode(t, mustRestart(t, c, joiner(inv)), first) })
	t.Run("by another invite of the mesh", func(t *testing.T) {
		sameNode(t, mustRestart(t, c, joiner(inviteFrom(t, alice, now, credential.Terms{Name: "carol"}))), first)
	})
	t.Run("by an invite that has expired since", func(t *testing.T) {
		old := inviteFrom(t, alice, now, credential.Terms{NotAfter: now.Add(time.Hour)})
		sameNode(t, mustRestart(t, c, joiner(old)), first)
	})
	t.Run("without one", func(t *testing.T) { sameNode(t, mustRestart(t, Config{Dir: c.Dir}, openIdentity), first) })
}

func TestJoinChoosesAName(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	for _, tt := range []struct {
		name, bound, asked string
		want               string // a prefix; empty means an error
	}{
		{"the joiner's", "", "bob", "bob"},
		{"the invite's", "bob", "", "bob"},
		{"both the same", "bob", "bob", "bob"},
		{"another than the invite's", "bob", "carol", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := inviteFrom(t, alice, now, credential.Terms{Name: tt.bound})
			id, err := restart(t, Config{Dir: t.TempDir(), Name: tt.asked}, joiner(inv))
			switch {
			case tt.want == "":
				if !errors.Is(err, credential.ErrNotAllowed) || !strings.Contains(err.Error(), `"`+tt.bound+`"`) {
					t.Errorf("join = %v, want %v, naming %q", err, credential.ErrNotAllowed, tt.bound)
				}
			case err != nil || id.member.Name != tt.want:
				t.Errorf("join = %+v, %v, want a member named %s", id, err, tt.want)
			}
		})
	}
	t.Run("made up", func(t *testing.T) {
		id := mustRestart(t, Config{}, joiner(inviteFrom(t, alice, now, credential.Terms{})))
		suffix := "-" + strings.ToLower(last(id.member.ID.String(), 5))
		if !strings.HasSuffix(id.member.Name, suffix) {
			t.Errorf("default name = %q, want one that ends in %q", id.member.Name, suffix)
		}
	})
}

func last(s string, n int) string { return s[len(s)-n:] }

// A start that was cut short anywhere is made up for by the next.
func TestStartCutShort(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	inv := inviteFrom(t, alice, now, credential.Terms{})
	for _, tt := range []struct {
		name  string
		files []string // there already
		find  finder
		root  bool // kept by the node
	}{
		{"founding, after the first key", []string{nodeKeyFile}, openIdentity, true},
		{"founding, before the credential", []string{nodeKeyFile, rootKeyFile}, openIdentity, true},
		{"joining, before the credential", []string{nodeKeyFile}, joiner(inv), false},
		{"founding, and then it joins", []string{nodeKeyFile, rootKeyFile}, joiner(inv), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Dir: t.TempDir(), Name: "bob"}
			openTestStore(t, c.Dir).Close()
			keys := map[string]ed25519.PrivateKey{}
			for _, file := range tt.files {
				keys[file] = makeTestKey(t, c.Dir, file)
			}
			first := mustRestart(t, c, tt.find)
			if !first.key.Equal(keys[nodeKeyFile]) {
				t.Error("the node has another key than the one that was there")
			}
			again := mustRestart(t, c, openIdentity)
			sameNode(t, again, first)
			if (again.root != nil) != tt.root {
				t.Errorf("afterwards the mesh's root is %v, want one: %v", again.root, tt.root)
			}
			if root := keys[rootKeyFile]; root != nil && tt.root && !again.root.Key().Equal(root) {
				t.Error("the root is another than the one that was there")
			}
		})
	}
}

func makeTestKey(t testing.TB, dir, file string) ed25519.PrivateKey {
	t.Helper()
	key, err := p2p.CreateKey(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// foundAt leaves in a directory a membership that began at a time and lasts
// for an hour.
func foundAt(t testing.TB, dir string, began time.Time) (speaker, ed25519.PrivateKey) {
	t.Helper()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", began.Add(-time.Minute))
	key := makeTestKey(t, dir, nodeKeyFile)
	own := founder.admit(t, key, began, credential.Terms{Name: "bob", NotAfter: began.Add(time.Hour)})
	s := openTestStore(t, dir)
	defer s.Close()
	mesh := founder.mesh
	err := s.put(selfBucket, map[string][]byte{keyMesh: mesh[:], keyCredential: own.own.Marshal()})
	if err != nil {
		t.Fatal(err)
	}
	return founder, key
}

// What Open and Join refuse before there is a node: each error names the
// directory and the cause, and the directory is as it was.
func TestOpenRefuses(t *testing.T) {
	now := time.Now()
	past, future := now.Add(-48*time.Hour), now.Add(48*time.Hour)
	member := func(t *testing.T, dir string) { foundAt(t, dir, now) }
	for _, tt := range []struct {
		name string
		make func(t *testing.T, dir string)
		open Config // and the directory
		want error
		says string
	}{
		{"key missing", func(t *testing.T, dir string) { member(t, dir); remove(t, dir, nodeKeyFile) },
			Config{}, ErrKeyMissing, nodeKeyFile},
		{"key damaged", func(t *testing.T, dir string) { member(t, dir); write(t, dir, nodeKeyFile, "x") },
			Config{}, p2p.ErrKeyCorrupt, nodeKeyFile},
		{"key of another node", func(t *testing.T, dir string) {
			member(t, dir)
			remove(t, dir, nodeKeyFile)
			makeTestKey(t, dir, nodeKeyFile)
		}, Config{}, ErrStateCorrupt, "its key is another's"},
		{"root key damaged", func(t *testing.T, dir string) { member(t, dir); write(t, dir, rootKeyFile, "x") },
			Config{}, p2p.ErrKeyCorrupt, rootKeyFile},
		{"another name", member, Config{Name: "carol"}, ErrNameFixed, "it is bob in "},
		{"membership expired", func(t *testing.T, dir string) { foundAt(t, dir, past) }, Config{}, credential.ErrExpired, "membership in "},
		{"clock before the membership", func(t *testing.T, dir string) { foundAt(t, dir, future) },
			Config{}, credential.ErrNotYetValid, "a clock is wrong"},
		{"mesh ID of another length", func(t *testing.T, dir string) { member(t, dir); put(t, dir, keyMesh, []byte{1}) },
			Config{}, ErrStateCorrupt, "mesh's ID has 1 bytes"},
		{"mesh ID of another mesh", func(t *testing.T, dir string) { member(t, dir); put(t, dir, keyMesh, make([]byte, 32)) },
			Config{}, ErrStateCorrupt, "not of this mesh"},
		{"credential damaged", func(t *testing.T, dir string) { member(t, dir); put(t, dir, keyCredential, []byte{1}) },
			Config{}, ErrStateCorrupt, "parse credential"},
		{"credential missing", func(t *testing.T, dir string) { member(t, dir); put(t, dir, keyCredential, nil) },
			Config{}, ErrStateCorrupt, "parse credential"},
		{"state file damaged", func(t *testing.T, dir string) { member(t, dir); write(t, dir, stateFile, "x") },
			Config{}, ErrStateCorrupt, stateFile},
		{"state file empty", func(t *testing.T, dir string) { member(t, dir); write(t, dir, stateFile, "") },
			Config{}, ErrStateCorrupt, stateFile},
		{"a name that is none", func(*testing.T, string) {}, Config{Name: "Bob"}, credential.ErrInvalid, "Config.Name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.open
			c.Dir = t.TempDir()
			tt.make(t, c.Dir)
			before := files(t, c.Dir)
			m, err := Open(t.Context(), c)
			if m != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Open = %v, %v, want %v, saying %q", m, err, tt.want, tt.says)
			}
			if len(before) > 0 && !strings.Contains(err.Error(), c.Dir) {
				t.Errorf("Open = %v, want the directory in it", err)
			}
			checkFiles(t, c.Dir, before)
		})
	}
}

func remove(t testing.TB, dir, file string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, file)); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, dir, key string, value []byte) {
	t.Helper()
	s := openTestStore(t, dir)
	defer s.Close()
	if err := s.put(selfBucket, map[string][]byte{key: value}); err != nil {
		t.Fatal(err)
	}
}

// files returns the content of a directory's files.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		out[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func checkFiles(t testing.TB, dir string, before map[string]string) {
	t.Helper()
	after := files(t, dir)
	for path, content := range before {
		if after[path] != content {
			t.Errorf("%s has changed", path)
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			t.Errorf("%s was made", path)
		}
	}
}

// What is wrong with an invite is seen before there is a node.
func TestJoinRefuses(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now.Add(-48*time.Hour))
	good := inviteFrom(t, alice, now, credential.Terms{}).Text()
	expired := inviteFrom(t, alice, now.Add(-24*time.Hour), credential.Terms{NotAfter: now.Add(-time.Hour)}).Text()
	early := inviteFrom(t, alice, now.Add(time.Hour), credential.Terms{}).Text()
	mistyped := []byte(good)
	mistyped[50] ^= 'a' ^ 'b'
	member := func(t *testing.T, dir string) { foundAt(t, dir, now) }
	elsewhere := func(t *testing.T, dir string) { mustRestart(t, Config{Dir: dir, Name: "carol"}, openIdentity) }
	nothing := func(*testing.T, string) {}
	for _, tt := range []struct {
		name   string
		make   func(t *testing.T, dir string)
		invite string
		want   error
		says   string
	}{
		{"nothing", nothing, "", credential.ErrNotInvite, "join: "},
		{"something else", nothing, "hello", credential.ErrNotInvite, "join: "},
		{"mistyped", nothing, string(mistyped), credential.ErrMistyped, "join: "},
		{"cut off", nothing, good[:len(good)-3], credential.ErrMistyped, "join: "},
		{"expired", nothing, expired, credential.ErrExpired, "join: "},
		{"not yet valid", nothing, early, credential.ErrNotYetValid, "join: "},
		{"of another mesh than the directory's", elsewhere, good, ErrOtherMesh, ""},
		{"mistyped, with a membership there", member, string(mistyped), credential.ErrMistyped, "join: "},
		{"key missing", func(t *testing.T, dir string) { member(t, dir); remove(t, dir, nodeKeyFile) }, good, ErrKeyMissing, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Dir: t.TempDir()}
			tt.make(t, c.Dir)
			before := files(t, c.Dir)
			m, err := Join(t.Context(), tt.invite, c)
			if m != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Join = %v, %v, want %v, saying %q", m, err, tt.want, tt.says)
			}
			delete(before, stateFile) // that it was opened may show
			after := files(t, c.Dir)
			for path, content := range before {
				if after[path] != content {
					t.Errorf("%s has changed", path)
				}
			}
			if _, made := after[nodeKeyFile]; made && before[nodeKeyFile] == "" {
				t.Error("a key was made")
			}
			if strings.Contains(err.Error(), good[20:60]) {
				t.Errorf("Join = %v, which shows the invite", err)
			}
		})
	}
}

// After a membership has expired an invite gives another, to the same node.
func TestJoinAfterExpiry(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name, asked, bound string
		want               string
	}{
		{"the name from last time", "", "", "bob"},
		{"another name, by choice", "robert", "", "robert"},
		{"another name, by the invite", "", "robert", "robert"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			founder, key := foundAt(t, dir, now.Add(-48*time.Hour))
			inv := inviteFrom(t, founder, now, credential.Terms{Name: tt.bound})
			id := mustRestart(t, Config{Dir: dir, Name: tt.asked}, joiner(inv))
			if !id.key.Equal(key) || id.mesh != founder.mesh || id.member.Name != tt.want || !id.member.NotAfter.After(now) {
				t.Errorf("joined as %+v of mesh %v, want the same node as %s", id.member, id.mesh, tt.want)
			}
			sameNode(t, mustRestart(t, Config{Dir: dir}, openIdentity), id)
		})
	}
}

// A membership that expired is not replaced by an invite that did, too.
func TestJoinAfterExpiryByAnExpiredInvite(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	founder, _ := foundAt(t, dir, now.Add(-48*time.Hour))
	inv := inviteFrom(t, founder, now.Add(-24*time.Hour), credential.Terms{NotAfter: now.Add(-time.Hour)})
	if id, err := restart(t, Config{Dir: dir}, joiner(inv)); !errors.Is(err, credential.ErrExpired) {
		t.Errorf("join = %+v, %v, want %v", id, err, credential.ErrExpired)
	}
}

func TestPortIsKept(t *testing.T) {
	s := newMemoryStore()
	for _, want := range []uint16{0, 1, 65535} {
		if want > 0 {
			if err := savePort(s, want); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := loadPort(s); err != nil || got != want {
			t.Errorf("loadPort = %d, %v, want %d", got, err, want)
		}
	}
}
