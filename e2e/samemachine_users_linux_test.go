package e2e

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Users that no test machine gives a name or a process.
const userA, userB = 64911, 64912

// Who has an invite, but is not one of the users who count on both sides, does
// not get into the mesh on this machine.
func TestOtherUsers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mode   os.FileMode
		first  []uint32 // who count for the first node, which is root's
		second []uint32 // and for that of user A
		fails  string   // of the second's join; empty if it joins
	}{
		{"in the user's own directory", 0o700, nil, []uint32{0}, "permission denied"},
		{"in a shared one, and neither counts the other", os.ModeSticky | 0o777, nil, nil, "no member"},
		{"in a shared one, and the first does not count the second", os.ModeSticky | 0o777, nil, []uint32{0}, "no member"},
		{"in a shared one, and the first counts another", os.ModeSticky | 0o777, []uint32{userB}, []uint32{0}, "no member"},
		{"in a shared one, and the second does not count the first", os.ModeSticky | 0o777, []uint32{userA}, nil, "no member"},
		{"in a shared one, and both count each other", os.ModeSticky | 0o777, []uint32{userA}, []uint32{0}, ""},
		{"in a shared one that others can't write to", 0o755, []uint32{userA}, []uint32{0}, "permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, elsewhere := sharedDirectory(t, tt.mode), sharedDirectory(t, os.ModeSticky|0o777)
			first := startProcess(t, "first", dir, placed{})
			second := startProcess(t, "second", dir, placed{user: userA})
			first.users, second.users = tt.first, tt.second
			invite := first.found()
			before := socketsIn(t, dir)
			if tt.fails != "" {
				_, err := second.try(order{Do: "join", Config: second.config(), Text: invite})
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("the second joins: %v, want %q", err, tt.fails)
				}
				if s := first.state(); len(s.Members) > 1 || s.Remade > 0 || s.LocalError != "" {
					t.Errorf("the first has members %v, made its socket again %d times, Local = %q; want it untouched", s.Members, s.Remade, s.LocalError)
				}
				if after := socketsIn(t, dir); !slices.Equal(before, after) {
					t.Errorf("the directory has %v after the attempt, %v before", after, before)
				}
				return
			}
			second.join(invite)
			checkReaches(t, first, second)
			first.do(order{Do: "expose", Text: "web", At: serveEcho(t, elsewhere)})
			listen := filepath.Join(elsewhere, "forward")
			second.do(order{Do: "forward", Text: "first/web", At: "unix:" + listen})
			roundTrip(t, listen, func() {
				if n := sharedSockets(t, first, second); n != 0 {
					t.Errorf("%d sockets are handed over to another user, want none", n)
				}
			})
		})
	}
}

// socketsIn returns the names in a directory, apart from hidden ones.
func socketsIn(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Another user who knows the mesh makes a socket for the name of a member. Those
// for whom the user does not count are not led astray; those for whom it does find
// out that it is not the member, and use the member's own.
func TestSquattedName(t *testing.T) {
	for _, tt := range []struct {
		name  string
		users []uint32
	}{
		{"by a user who does not count", []uint32{userB}},
		{"by a user who counts", []uint32{userA}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := sharedDirectory(t, os.ModeSticky|0o777)
			alice, bob := startProcess(t, "alice", dir, placed{}), startProcess(t, "bob", dir, placed{})
			alice.users, bob.users = tt.users, tt.users
			invite := alice.found()
			squatter := startProcess(t, "squatter", dir, placed{user: userA})
			squatter.users = []uint32{0}
			squatter.do(order{Do: "squat", Config: squatter.config(), Text: alice.do(order{Do: "mesh"}).Text, At: alice.do(order{Do: "id"}).Text})
			if n := len(socketsIn(t, dir)); n != 2 {
				t.Fatalf("the directory has %d sockets, want the member's and the squatter's", n)
			}
			bob.join(invite)
			checkReaches(t, alice, bob)
		})
	}
}

// A user who counts puts now a dead socket, now a link under one name, while root
// looks for who is there and tidies up. Root removes and changes nothing else.
func TestSwappedSocket(t *testing.T) {
	parent := sharedDirectory(t, 0o755)
	dir := filepath.Join(parent, "d")
	if err := errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, os.ModeSticky|0o777)); err != nil {
		t.Fatal(err)
	}
	precious := []string{filepath.Join(dir, "precious"), filepath.Join(parent, "precious")}
	for _, path := range precious {
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	alice := startProcess(t, "alice", dir, placed{})
	alice.users = []uint32{userA}
	alice.found()
	swapper := startProcess(t, "swapper", dir, placed{user: userA})
	swapper.users = []uint32{0}
	swapper.do(order{Do: "swap", Config: swapper.config(), Text: alice.do(order{Do: "mesh"}).Text, At: nobody.String()})
	refused := 0
	for range 300 {
		_, err := alice.try(order{Do: "say", Text: nobody.String() + "/echo"})
		if err == nil {
			t.Fatal("nobody answers")
		}
		if strings.Contains(err.Error(), "connection refused") {
			refused++
		}
	}
	t.Logf("the socket was found dead %d times", refused)
	for _, path := range precious {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != "mine" || info.Mode() != 0o600 {
			t.Errorf("%s has %q, %v, mode %v; want it left alone", path, got, err, info.Mode())
		}
	}
	if s := alice.state(); s.Remade > 0 || s.LocalError != "" {
		t.Errorf("the socket was made again %d times, Local = %q; want none", s.Remade, s.LocalError)
	}
}
