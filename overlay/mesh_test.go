package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"github.com/p2pnode/p2pnode/p2p"
)

func TestMembers(t *testing.T) {
	t.Parallel()
	nodes := overlaytest.New(t, 4)
	waitAll(t, nodes...)
	for i, m := range nodes {
		all := m.Members()
		var names []string
		for j, o := range all {
			names = append(names, o.Name)
			want := nodes[j].Self()
			if o.ID != want.ID || o.Name != want.Name || o.Roles != want.Roles || !o.Up || o.Self != (i == j) {
				t.Errorf("node%d sees %+v, want %+v", i, o, want)
			}
			if (o.Path == p2p.PathSelf) != o.Self {
				t.Errorf("node%d: path to %s is %v", i, o.Name, o.Path)
			}
			if got, ok := m.Member(o.ID); !ok || got.ID != o.ID || got.Self != o.Self {
				t.Errorf("node%d: Member(%s) = %+v, %v, want the same as in Members()", i, o.Name, got, ok)
			}
		}
		if want := []string{"node0", "node1", "node2", "node3"}; !slices.Equal(names, want) {
			t.Errorf("node%d sees %v, want %v", i, names, want)
		}
	}
	if m, ok := nodes[0].Member("nobody"); ok {
		t.Errorf("Member of an ID that is none = %+v, want false", m)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{Name: "alice"})
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var bob *overlay.Mesh
	seen := ""
	for all := range alice.Watch(ctx) {
		up := 0
		for _, m := range all {
			if m.Up {
				up++
			}
		}
		switch {
		case seen == "" && len(all) == 1: // the present state comes first
			seen = "alone"
			bob = join(t, invite(t, alice, overlay.InviteOptions{}), overlay.Config{Name: "bob"})
		case seen == "alone" && up == 2:
			seen = "both"
			bob.Close()
		case seen == "both" && len(all) == 2 && up == 1:
			seen = "gone"
			cancel()
		}
	}
	if seen != "gone" {
		t.Errorf("Watch ended at %q, want it to have seen bob come and go", seen)
	}
	first := 0
	for range alice.Watch(context.Background()) {
		if first++; first == 1 {
			alice.Close()
		}
	}
	if first == 0 {
		t.Error("Watch yielded nothing before the mesh was closed")
	}
}

// A node that is killed is seen to be gone within seconds, comes back with its
// identity, and is found though it is elsewhere then.
func TestKilledMemberComesBack(t *testing.T) {
	t.Parallel()
	all := overlaytest.Processes(t, 3)
	watcher := join(t, all[0].Invite(), nearProcesses(t, "watcher"))
	waitMembers(t, watcher, "all up", func(members []overlay.Member) bool {
		return len(members) == 4 && !slices.ContainsFunc(members, func(m overlay.Member) bool { return !m.Up })
	})
	victim := named(t, watcher, "node2")
	all[2].Kill()
	began := time.Now()
	waitUp(t, watcher, victim.ID, false)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it was seen to be gone after %v, want within seconds", took)
	}
	all[2].Restart()
	waitUp(t, watcher, victim.ID, true)
	if again := named(t, watcher, "node2"); again.ID != victim.ID {
		t.Errorf("it came back as %v, want %v", again.ID, victim.ID)
	}
	serveProcess(t, all[2], "name")
	checkAnswer(t, watcher, "node2/name", "node2")
	all[0].Kill() // who founded the mesh is not needed for it to work
	checkAnswer(t, watcher, victim.ID.String()+"/name", "node2")
}

func named(t testing.TB, m *overlay.Mesh, name string) overlay.Member {
	t.Helper()
	members := m.Members()
	i := slices.IndexFunc(members, func(o overlay.Member) bool { return o.Name == name })
	if i < 0 {
		t.Fatalf("%s sees %+v, want %s among them", m.Self().Name, members, name)
	}
	return members[i]
}

// serveProcess offers a service of a process that writes the node's name.
func serveProcess(t testing.TB, p *overlaytest.Process, service string) {
	t.Helper()
	l := p.Listen(service)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, p.Name)
			c.Close()
		}
	}()
}

// The nearest provider is killed, and the next one serves.
func TestKilledProvider(t *testing.T) {
	t.Parallel()
	all := overlaytest.Processes(t, 3)
	dialer := join(t, all[0].Invite(), nearProcesses(t, "dialer"))
	byName := map[string]*overlaytest.Process{}
	for _, p := range all[1:] {
		serveProcess(t, p, "work")
		byName[p.Name] = p
	}
	for range 2 {
		var answer string
		until(t, "a provider answers", func() bool {
			var err error
			answer, err = ask(t, dialer, "/work")
			return err == nil && byName[answer] != nil
		})
		byName[answer].Kill()
		delete(byName, answer)
	}
	_, err := dialer.Dial(testContext(t), "/work")
	checkIs(t, "Dial once all providers are killed", err, overlay.ErrNoProvider)
}

// All nodes stop, and come back with no word of where the others are.
func TestAllRestart(t *testing.T) {
	t.Parallel()
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	// Without Listen, since they are to be on the ports of last time.
	resume := func(i int) *overlay.Mesh {
		t.Helper()
		return start(t, func(ctx context.Context) (*overlay.Mesh, error) {
			return overlay.Open(ctx, overlay.Config{Dir: dirs[i]})
		})
	}
	nodes := []*overlay.Mesh{resume(0)}
	text := invite(t, nodes[0], overlay.InviteOptions{})
	for i := range dirs[1:] {
		nodes = append(nodes, start(t, func(ctx context.Context) (*overlay.Mesh, error) {
			return overlay.Join(ctx, text, overlay.Config{Dir: dirs[i+1]})
		}))
	}
	waitAll(t, nodes...)
	var before []overlay.Member
	for _, m := range nodes {
		before = append(before, m.Self())
		if err := m.Close(); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
	}
	var after []*overlay.Mesh
	for i := range dirs {
		m := resume(i)
		if self := m.Self(); self.ID != before[i].ID || self.Name != before[i].Name || m.ID() != nodes[i].ID() {
			t.Errorf("node %d came back as %+v, want %+v", i, self, before[i])
		}
		after = append(after, m)
	}
	waitAll(t, after...)
}

// A node that comes back elsewhere is found there.
func TestMemberOnAnotherPort(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	dir := t.TempDir()
	text := invite(t, alice, overlay.InviteOptions{})
	carol := join(t, text, overlay.Config{Name: "carol", Dir: dir})
	waitAll(t, alice, bob, carol)
	before := carol.Addrs()
	carol.Close()
	waitUp(t, bob, carol.Self().ID, false)
	again := open(t, overlay.Config{Dir: dir}) // which remembers where alice and bob are
	if slices.ContainsFunc(again.Addrs(), before[0].Equal) {
		t.Fatalf("it came back at %v, want elsewhere than %v", again.Addrs(), before)
	}
	serveName(t, again, "name")
	waitUp(t, bob, carol.Self().ID, true)
	checkAnswer(t, bob, "carol/name", "carol")
}

// A membership from an invite is made to last by the first admin that is met.
func TestRenewal(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	waitAll(t, alice, bob)
	dir := t.TempDir()
	text := invite(t, alice, overlay.InviteOptions{Expires: time.Minute})
	carol := join(t, text, overlay.Config{Name: "carol", Dir: dir})
	lasts := func(all []overlay.Member) bool {
		return slices.ContainsFunc(all, func(m overlay.Member) bool { return m.Self && time.Until(m.Expires) > 24*time.Hour })
	}
	waitMembers(t, carol, "a credential that lasts", lasts)
	if self := carol.Self(); self.Name != "carol" || self.Roles != credential.DefaultRoles {
		t.Errorf("renewed it is %+v, want carol with the same roles", self)
	}
	carol.Close()
	if again := open(t, overlay.Config{Dir: dir}); time.Until(again.Self().Expires) < 24*time.Hour {
		t.Errorf("after a restart it ends %v, want that it still lasts", again.Self().Expires)
	}
}

func TestInvite(t *testing.T) {
	t.Parallel()
	alice, bob := newPair(t)
	_, err := bob.Invite(overlay.InviteOptions{})
	checkIs(t, "Invite by who is no admin", err, overlay.ErrNotAdmin)
	for _, tt := range []struct {
		name string
		in   overlay.InviteOptions
	}{
		{"negative time", overlay.InviteOptions{Expires: -1}},
		{"longer than the admin's own", overlay.InviteOptions{Expires: 100 * 365 * 24 * time.Hour}},
		{"a name that is none", overlay.InviteOptions{Name: "Bob"}},
		{"a role that is none", overlay.InviteOptions{Roles: 1 << 7}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if inv, err := alice.Invite(tt.in); err == nil {
				t.Errorf("Invite(%+v) = %v, want an error", tt.in, inv)
			}
		})
	}
	inv, err := alice.Invite(overlay.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Until(inv.Grant().NotAfter); got > overlay.DefaultInviteLife || got < overlay.DefaultInviteLife-time.Minute {
		t.Errorf("an invite can be used for %v, want %v", got, overlay.DefaultInviteLife)
	}
	if inv.Mesh() != alice.ID() || inv.Grant().Roles != credential.DefaultRoles || inv.Start()[0].ID != alice.Self().ID {
		t.Errorf("Invite = %v starting at %v, want one to alice's mesh, starting there", inv, inv.Start())
	}
}

// An admin by invite can invite in turn, once a founder has renewed it.
func TestInvitedAdmin(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{Name: "alice"})
	text := invite(t, alice, overlay.InviteOptions{Roles: credential.DefaultRoles | credential.RoleAdmin, Name: "bob"})
	bob := join(t, text, overlay.Config{})
	if self := bob.Self(); self.Name != "bob" || !self.Roles.Has(credential.RoleAdmin) {
		t.Fatalf("joined as %+v, want bob, an admin", self)
	}
	var second string
	waitMembers(t, bob, "that it can invite", func([]overlay.Member) bool {
		inv, err := bob.Invite(overlay.InviteOptions{Expires: time.Hour})
		if err == nil {
			second = inv.Text()
		}
		return err == nil
	})
	alice.Close()
	carol := join(t, second, overlay.Config{Name: "carol"})
	waitAll(t, bob, carol)
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	alice := open(t, overlay.Config{})
	dir := t.TempDir()
	m, err := overlay.Open(testContext(t), overlay.Config{Dir: dir, Listen: alice.Addrs()})
	if err == nil {
		m.Close()
		t.Fatal("Open at a port that is taken = nil error, want one")
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("Open = %v, want what the system says", err)
	}
	open(t, overlay.Config{Dir: dir}) // nothing is left that would be in the way
}

// nearProcesses configures a node that meets those of overlaytest.Processes.
func nearProcesses(t testing.TB, name string) overlay.Config {
	c := overlaytest.Local(t)
	c.Name = name
	return c
}
