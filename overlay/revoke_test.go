package overlay_test

import (
	"io"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// A member that is revoked loses its streams and connections, on every transport,
// and can't come back; the others don't list it any more.
func TestRevoke(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0/ws"} {
		t.Run(addr, func(t *testing.T) {
			t.Parallel()
			at := []multiaddr.Multiaddr{multiaddr.StringCast(addr)}
			alice := open(t, overlay.Config{Name: "alice", Listen: at})
			text := invite(t, alice, overlay.InviteOptions{})
			bob := join(t, text, overlay.Config{Name: "bob", Listen: at})
			carol := join(t, text, overlay.Config{Name: "carol", Listen: at})
			waitAll(t, alice, bob, carol)
			serveName(t, carol, "name")
			l := listen(t, carol, "held")
			c, err := bob.Dial(testContext(t), "carol/held")
			if err != nil {
				t.Fatal(err)
			}
			served, err := l.AcceptConn()
			if err != nil {
				t.Fatal(err)
			}
			if err := alice.Revoke(testContext(t), "bob", overlay.RevokeOptions{}); err != nil {
				t.Fatalf("Revoke = %v, want nil", err)
			}
			await(t, "bob knows", bob.Done())
			checkIs(t, "Err of the revoked", bob.Err(), credential.ErrRevoked)
			_, err = io.ReadAll(served)
			checkIs(t, "Read at the member that served the revoked", err, credential.ErrRevoked)
			if _, err := io.ReadAll(c); err == nil {
				t.Error("Read at the revoked = nil, want an error")
			}
			_, err = bob.Dial(testContext(t), "carol/name")
			checkIs(t, "Dial by the revoked", err, credential.ErrRevoked)
			for _, m := range []*overlay.Mesh{alice, carol} {
				waitMembers(t, m, "bob is not listed", func(members []overlay.Member) bool { return len(members) == 2 })
			}
			if _, err := alice.Dial(testContext(t), "carol/name"); err != nil {
				t.Errorf("Dial between the others = %v, want nil", err)
			}
		})
	}
}

// What is revoked stays so across a restart, and whoever was away hears of it from
// others before it lets the revoked use anything.
func TestRevokedWhileAway(t *testing.T) {
	t.Parallel()
	alice := open(t, onLoopback(overlay.Config{Name: "alice", Dir: t.TempDir()}))
	text := invite(t, alice, overlay.InviteOptions{})
	bobDir, carolDir := t.TempDir(), t.TempDir()
	bob := join(t, text, onLoopback(overlay.Config{Name: "bob", Dir: bobDir}))
	carol := join(t, text, onLoopback(overlay.Config{Name: "carol", Dir: carolDir}))
	waitAll(t, alice, bob, carol)
	for _, m := range []*overlay.Mesh{bob, carol} {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := alice.Revoke(testContext(t), bob.Self().ID.String(), overlay.RevokeOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := overlay.Open(testContext(t), onLoopback(overlay.Config{Dir: bobDir}))
	checkIs(t, "Open of the revoked", err, credential.ErrRevoked)

	carol = open(t, onLoopback(overlay.Config{Dir: carolDir}))
	serveName(t, carol, "name")
	if got := len(carol.Members()); got != 2 {
		t.Errorf("who was away lists %d members, want alice and herself", got)
	}
	if err := carol.Close(); err != nil {
		t.Fatal(err)
	}
	if err := alice.Close(); err != nil {
		t.Fatal(err)
	}
	carol = open(t, onLoopback(overlay.Config{Dir: carolDir})) // which asks nobody now
	_, err = overlay.Open(testContext(t), onLoopback(overlay.Config{Dir: bobDir, Bootstrap: fullAddrs(carol)}))
	checkIs(t, "Open of the revoked at one who has heard of it", err, credential.ErrRevoked)
}

func fullAddrs(m *overlay.Mesh) []multiaddr.Multiaddr {
	var out []multiaddr.Multiaddr
	for _, a := range m.Addrs() {
		out = append(out, a.Encapsulate(multiaddr.StringCast("/p2p/"+m.Self().ID.String())))
	}
	return out
}

func TestWhoMayRevoke(t *testing.T) {
	t.Parallel()
	alice := open(t, onLoopback(overlay.Config{Name: "alice"}))
	bob := join(t, invite(t, alice, overlay.InviteOptions{Roles: credential.DefaultRoles | credential.RoleAdmin}), onLoopback(overlay.Config{Name: "bob"}))
	carol := join(t, invite(t, alice, overlay.InviteOptions{}), onLoopback(overlay.Config{Name: "carol"}))
	waitAll(t, alice, bob, carol)
	for _, tt := range []struct {
		name string
		by   *overlay.Mesh
		who  string
		want error
	}{
		{"a member another", carol, "bob", overlay.ErrNotAdmin},
		{"an admin the founder", bob, "alice", overlay.ErrNotPermitted},
		{"nobody there is", alice, "dave", overlay.ErrUnknownMember},
		{"an admin a member", bob, "carol", nil},
		{"the founder an admin", alice, "bob", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkIs(t, "Revoke", tt.by.Revoke(testContext(t), tt.who, overlay.RevokeOptions{}), tt.want)
		})
	}
	await(t, "carol is out", carol.Done())
	await(t, "bob is out", bob.Done())
}

// With an invite goes whom it admitted from a time on, and no one else.
func TestRevokeInvite(t *testing.T) {
	t.Parallel()
	alice := open(t, onLoopback(overlay.Config{Name: "alice"}))
	inv, err := alice.Invite(overlay.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bob := join(t, inv.Text(), onLoopback(overlay.Config{Name: "bob"}))
	waitAll(t, alice, bob)
	if err := alice.Revoke(testContext(t), inv.ID().String(), overlay.RevokeOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = overlay.Join(testContext(t), inv.Text(), onLoopback(overlay.Config{Name: "carol"}))
	checkIs(t, "Join by a revoked invite", err, credential.ErrRevoked)
	if _, _, err := alice.Ping(testContext(t), "bob"); err != nil {
		t.Errorf("Ping of who joined before = %v, want nil", err)
	}
	if list, err := alice.Invites(); err != nil || len(list) != 1 || !list[0].Revoked || len(list[0].Used) != 1 {
		t.Errorf("Invites = %+v, %v, want one, revoked and used once", list, err)
	}
	since := overlay.RevokeOptions{WithAdmittedSince: time.Now().Add(-time.Hour)}
	if err := alice.Revoke(testContext(t), inv.ID().String(), since); err != nil {
		t.Fatal(err)
	}
	await(t, "bob is out", bob.Done())
}

// Of an admin goes all that it signed, but those it admitted stay in.
func TestRevokeAdmin(t *testing.T) {
	t.Parallel()
	alice := open(t, onLoopback(overlay.Config{Name: "alice"}))
	bob := join(t, invite(t, alice, overlay.InviteOptions{Roles: credential.DefaultRoles | credential.RoleAdmin}), onLoopback(overlay.Config{Name: "bob"}))
	waitAll(t, alice, bob)
	waitMembers(t, bob, "bob has a lasting credential", func([]overlay.Member) bool {
		return time.Until(bob.Self().Expires) > 2*overlay.DefaultInviteLife
	})
	stale := invite(t, bob, overlay.InviteOptions{Expires: time.Hour})
	carol := join(t, stale, onLoopback(overlay.Config{Name: "carol"}))
	waitAll(t, alice, bob, carol)
	if err := alice.Revoke(testContext(t), "bob", overlay.RevokeOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "bob is out", bob.Done())
	serveName(t, carol, "name")
	if _, err := alice.Dial(testContext(t), "carol/name"); err != nil {
		t.Errorf("Dial of who the revoked admin admitted = %v, want nil", err)
	}
	late := onLoopback(overlay.Config{Name: "late", Bootstrap: fullAddrs(alice)})
	_, err := overlay.Join(testContext(t), stale, late)
	checkIs(t, "Join by an invite of the revoked admin", err, credential.ErrRevoked)
}

func TestLeave(t *testing.T) {
	t.Parallel()
	alice := open(t, onLoopback(overlay.Config{Name: "alice"}))
	dir := t.TempDir()
	text := invite(t, alice, overlay.InviteOptions{})
	bob := join(t, text, onLoopback(overlay.Config{Name: "bob", Dir: dir}))
	waitAll(t, alice, bob)
	id := bob.Self().ID
	if err := bob.Leave(testContext(t)); err != nil {
		t.Fatalf("Leave = %v, want nil", err)
	}
	await(t, "bob is out", bob.Done())
	checkIs(t, "Err", bob.Err(), overlay.ErrLeft)
	waitMembers(t, alice, "bob is not listed", func(members []overlay.Member) bool { return len(members) == 1 })
	if err := bob.Close(); err != nil {
		t.Errorf("Close = %v, want nil", err)
	}
	again := join(t, text, onLoopback(overlay.Config{Name: "bob", Dir: dir}))
	waitAll(t, alice, again)
	if again.Self().ID == id {
		t.Error("who joins again has the key that is revoked")
	}
}

// A counted invite admits as many as it says, through an admin or another member,
// and the same node again.
func TestCountedInvite(t *testing.T) {
	t.Parallel()
	alice := open(t, onLoopback(overlay.Config{Name: "alice"}))
	bob := join(t, invite(t, alice, overlay.InviteOptions{}), onLoopback(overlay.Config{Name: "bob"}))
	waitAll(t, alice, bob)
	inv, err := alice.Invite(overlay.InviteOptions{Uses: 2})
	if err != nil {
		t.Fatal(err)
	}
	carol := join(t, inv.Text(), onLoopback(overlay.Config{Name: "carol"}))
	throughBob := onLoopback(overlay.Config{Name: "dave", Bootstrap: fullAddrs(bob)})
	dave := join(t, inv.Text(), throughBob)
	waitAll(t, alice, bob, carol, dave)
	_, err = overlay.Join(testContext(t), inv.Text(), onLoopback(overlay.Config{Name: "eve"}))
	checkIs(t, "Join by an invite that is used up", err, overlay.ErrInviteUsed)
	list, err := alice.Invites()
	for _, info := range list {
		if want := map[bool]int{true: 2, false: 1}[info.ID == inv.ID()]; len(info.Used) != want {
			t.Errorf("Invites = %+v, want it used %d times", info, want)
		}
	}
	if err != nil || len(list) != 2 {
		t.Errorf("Invites = %d, %v, want two", len(list), err)
	}
}
