package daemon

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// joinAs adds a member to the mesh of an admin.
func joinAs(t *testing.T, admin *overlay.Mesh, o overlay.InviteOptions, name string) *overlay.Mesh {
	t.Helper()
	inv, err := admin.Invite(o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := overlay.Join(testContext(t), inv.Text(), localConfig(t, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// meet has one node know another.
func meet(t *testing.T, m, other *overlay.Mesh) {
	t.Helper()
	if _, _, err := m.Ping(testContext(t), other.Self().ID.String()); err != nil {
		t.Fatal(err)
	}
}

// A name that its member chose is pinned to who has it now, and one that an admin
// gave is not.
func TestRuleOfAName(t *testing.T) {
	alice := overlaytest.New(t, 1)[0]
	chosen := joinAs(t, alice, overlay.InviteOptions{}, "chosen")
	given := joinAs(t, alice, overlay.InviteOptions{Name: "given"}, "")
	twin := joinAs(t, alice, overlay.InviteOptions{}, "twin")
	other := joinAs(t, alice, overlay.InviteOptions{Name: "twin"}, "")
	for _, m := range []*overlay.Mesh{chosen, given, twin, other} {
		meet(t, alice, m)
	}
	s := serve(t, alice)
	ctx := testContext(t)
	if _, err := s.Expose(ctx, "web", "3000", "role:admin"); err != nil {
		t.Fatal(err)
	}
	id := chosen.Self().ID.String()
	for _, tt := range []struct {
		who        string
		rule, name string
		note       bool
	}{
		{"chosen", id, "chosen", false},
		{id, id, "chosen", false},
		{"given", "given", "", false},
		{"stranger", "stranger", "", true},
		{"role:relay", "role:relay", "", false},
		{"everyone", "everyone", "", false},
	} {
		a, err := s.Allow(ctx, "web", tt.who)
		i := slices.IndexFunc(a.Allow, func(r control.Rule) bool { return r.Rule == tt.rule })
		if err != nil || i < 0 || a.Allow[i].Name != tt.name || (a.Allow[i].Note != "") != tt.note {
			t.Errorf("Allow(%s) = %+v, %v, want a rule %s of %q", tt.who, a.Allow, err, tt.rule, tt.name)
		}
	}
	_, err := s.Allow(ctx, "web", "twin")
	wantCode(t, "Allow(twin)", err, control.CodeAmbiguous)
	_, err = s.Deny(ctx, "web", "given", "A B")
	wantCode(t, "Deny(A B)", err, control.CodeBadRequest)
	list, err := s.Access(ctx)
	if err != nil || len(list) != 1 || len(list[0].Deny) > 0 {
		t.Errorf("Access = %+v, %v, want web with nobody denied", list, err)
	}
}

// A name is taken back as it was given, though its member is gone by then.
func TestDenyOfAMemberThatIsGone(t *testing.T) {
	alice := overlaytest.New(t, 1)[0]
	bob := joinAs(t, alice, overlay.InviteOptions{}, "bob")
	meet(t, alice, bob)
	s := serve(t, alice)
	ctx := testContext(t)
	x, err := s.Expose(ctx, "web", "3000", "bob", "role:admin")
	if err != nil || len(x.Allow) != 2 || x.Allow[0].Name != "bob" {
		t.Fatalf("Expose = %+v, %v, want it for bob", x, err)
	}
	if _, err := s.Revoke(ctx, control.Revocation{Who: "bob"}); err != nil {
		t.Fatal(err)
	}
	a, err := s.Deny(ctx, "web", "bob")
	if err != nil || len(a.Allow) != 1 || len(a.Deny) != 1 || a.Deny[0].Rule != x.Allow[0].Rule {
		t.Errorf("Deny = %+v, %v, want what was allowed denied", a, err)
	}
}

// Edits at the same time are all made.
func TestConcurrentEdits(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	ctx := testContext(t)
	if _, err := s.Expose(ctx, "web", "3000", "role:admin"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if _, err := s.Allow(ctx, "web", fmt.Sprintf("a%d", i)); err != nil {
				t.Errorf("Allow = %v", err)
			}
		})
	}
	wg.Wait()
	list, err := s.Access(ctx)
	if err != nil || len(list) != 1 || len(list[0].Allow) != 17 {
		t.Errorf("Access = %+v, %v, want 17 rules", list, err)
	}
}

// A stream through a node breaks with the reason, where the node knows it.
func TestStreamOfARevokedMember(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	l := listen(t, nodes[1], "web")
	alice, bob := serve(t, nodes[0]), serveOut(t, nodes[1])
	ctx := testContext(t)
	conn, err := alice.Dial(ctx, "node1/web")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accept(t, l)
	out, err := alice.Revoke(ctx, control.Revocation{Who: "node1"})
	if err != nil || len(out.Out) != 1 || out.Out[0].Name != "node1" || out.Out[0].ID != nodes[1].Self().ID.String() {
		t.Errorf("Revoke = %+v, %v, want node1 out", out, err)
	}
	_, err = io.ReadAll(conn)
	if !errors.Is(err, control.ErrBroken) {
		t.Errorf("ReadAll = %v, want %v", err, control.ErrBroken)
	}
	wantCode(t, "ReadAll", err, control.CodeRevoked)
	if err := bob.result(t); !errors.Is(err, credential.ErrRevoked) {
		t.Errorf("Serve = %v, want %v", err, credential.ErrRevoked)
	}
}

// A node that left has ended well, and Leave has waited for that.
func TestLeave(t *testing.T) {
	for range 5 {
		nodes := overlaytest.New(t, 2)
		bob := serve(t, nodes[1])
		left, err := bob.Leave(testContext(t))
		if err != nil || left.Name != "node1" || left.Mesh == "" || left.ID == "" {
			t.Errorf("Leave = %+v, %v", left, err)
		}
		if _, err := control.Open(bob.dir); !errors.Is(err, control.ErrNotRunning) {
			t.Errorf("Open after Leave = %v, want %v", err, control.ErrNotRunning)
		}
		bob.wait(t)
	}
}

func TestRevokeByAMember(t *testing.T) {
	bob := serve(t, overlaytest.New(t, 2)[1])
	_, err := bob.Revoke(testContext(t), control.Revocation{Who: "node0"})
	wantCode(t, "Revoke", err, control.CodeNotAdmin)
}

func TestRevokeOfAnInvite(t *testing.T) {
	mesh := overlaytest.New(t, 1)[0]
	alice := serve(t, mesh)
	ctx := testContext(t)
	inv, err := alice.Invite(ctx, control.InviteOptions{Uses: 1, Services: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := alice.Revoke(ctx, control.Revocation{Who: inv.ID})
	if err != nil || out.Invite != inv.ID || out.Unknown || len(out.Out) > 0 {
		t.Errorf("Revoke = %+v, %v, want the invite alone", out, err)
	}
	list, err := alice.Invites(ctx)
	i := slices.IndexFunc(list, func(known control.InviteInfo) bool { return known.ID == inv.ID })
	if err != nil || i < 0 || list[i].State != control.InviteRevoked {
		t.Errorf("Invites = %+v, %v, want it revoked", list, err)
	}
	_, err = overlay.Join(ctx, inv.Invite, localConfig(t, "bob"))
	if !errors.Is(err, credential.ErrRevoked) {
		t.Errorf("Join = %v, want %v", err, credential.ErrRevoked)
	}
}

func TestWhois(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	alice, bob := serve(t, nodes[0]), serve(t, nodes[1])
	ctx := testContext(t)
	for service, who := range map[string]string{"web": "everyone", "db": "role:admin"} {
		if _, err := alice.Expose(ctx, service, "3000", who); err != nil {
			t.Fatal(err)
		}
	}
	id := nodes[0].Self().ID.String()
	conns := nodes[1].Node().Connections()
	if len(conns) == 0 {
		t.Fatal("Connections = none, want one to node0")
	}
	for _, who := range []string{"node0", id, conns[0].Addr.String()} {
		w, err := bob.Whois(ctx, who)
		if err != nil || w.ID != id || w.Admitted.IsZero() || w.Expires.IsZero() || !slices.Equal(w.Offers, []control.Offer{{Service: "web", Kind: "stream"}}) || w.NoOffers != "" {
			t.Errorf("Whois(%s) = %+v, %v, want node0 that offers web", who, w, err)
		}
	}
	_, err := bob.Whois(ctx, "nobody")
	wantCode(t, "Whois(nobody)", err, control.CodeUnknownMember)
}

func TestInviteState(t *testing.T) {
	now := time.Unix(1000, 0)
	later, used := now.Add(time.Hour), []peer.ID{"a", "b"}
	for _, tt := range []struct {
		name string
		info overlay.InviteInfo
		want control.InviteState
	}{
		{"for any number", overlay.InviteInfo{Expires: later, Used: used}, control.InviteOpen},
		{"for one more", overlay.InviteInfo{Expires: later, Used: used, Uses: 3}, control.InviteOpen},
		{"for no more", overlay.InviteInfo{Expires: later, Used: used, Uses: 2}, control.InviteUsedUp},
		{"over", overlay.InviteInfo{Expires: now.Add(-1), Used: used, Uses: 2}, control.InviteExpired},
		{"revoked", overlay.InviteInfo{Expires: now.Add(-1), Used: used, Uses: 2, Revoked: true}, control.InviteRevoked},
	} {
		if got := inviteState(tt.info, now); got != tt.want {
			t.Errorf("%s: inviteState = %s, want %s", tt.name, got, tt.want)
		}
	}
}

// localConfig is of a node that meets those of overlaytest.
func localConfig(t *testing.T, name string) overlay.Config {
	c := overlaytest.Local(t)
	c.Name = name
	return c
}
