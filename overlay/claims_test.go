package overlay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
)

// A claimAdmin is an admin in a race: its claims, and the others it can tell.
type claimAdmin struct {
	*Mesh
	mu     sync.Mutex // held by those who redeem the same invite here
	others []*claimAdmin
}

func newClaimAdmins(t testing.TB, n int) []*claimAdmin {
	t.Helper()
	all := make([]*claimAdmin, n)
	for i := range all {
		s := newMemoryStore()
		c, err := loadClaims(s, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		all[i] = &claimAdmin{Mesh: &Mesh{store: s, claims: c}}
	}
	for i, a := range all {
		for j, b := range all {
			if i != j {
				a.others = append(a.others, b)
			}
		}
	}
	return all
}

// reload drops what an admin has in memory.
func (a *claimAdmin) reload() (err error) {
	a.claims, err = loadClaims(a.store, time.Now())
	return err
}

// ask is Mesh.exchangeClaims over a pipe.
func (a *claimAdmin) ask(other *claimAdmin, serial credential.Serial) error {
	here, there := net.Pipe()
	served := make(chan error, 1)
	go func() {
		defer there.Close()
		served <- other.answerClaims(there)
	}()
	defer here.Close()
	err := writeClaims(here, serial, a.claims.of(serial))
	if err == nil {
		_, err = a.readClaims(here)
	}
	return errors.Join(err, <-served)
}

func (a *claimAdmin) tell(_ context.Context, serial credential.Serial) {
	var wg sync.WaitGroup
	for _, o := range a.others {
		wg.Go(func() {
			if err := a.ask(o, serial); err != nil {
				panic(err)
			}
		})
	}
	wg.Wait()
}

func (a *claimAdmin) redeem(invite credential.Grant, key byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.claims.take(context.Background(), invite, claimKey(key), a.tell)
}

func claimKey(b byte) [ed25519.PublicKeySize]byte {
	return [ed25519.PublicKeySize]byte(bytes.Repeat([]byte{b}, ed25519.PublicKeySize))
}

func countedInvite(serial byte, uses uint16) credential.Grant {
	return credential.Grant{Serial: credential.Serial{serial, byte(uses)}, Uses: uses, NotAfter: time.Now().Add(time.Hour)}
}

// However many redeem an invite at the same time, with whichever admin, it admits
// as many as it says.
func TestClaimRaces(t *testing.T) {
	const redeemers = 8
	for race := range 1000 {
		uses := uint16(1)
		if race%4 == 3 {
			uses = uint16(2 + race/4%4)
		}
		admins := newClaimAdmins(t, 3)
		invite := countedInvite(byte(race), uses)
		results := make([]error, redeemers)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() { results[i] = admins[(i+race)%len(admins)].redeem(invite, byte(i+1)) })
		}
		wg.Wait()
		won := 0
		for i, err := range results {
			if err == nil {
				won++
			} else if !errors.Is(err, ErrInviteUsed) {
				t.Fatalf("race %d: redeem = %v, want nil or %v", race, err, ErrInviteUsed)
			}
			if race%10 == 0 { // the same again, elsewhere, after a restart
				again := admins[(i+race+1)%len(admins)]
				if err := again.reload(); err != nil {
					t.Fatal(err)
				}
				again.tell(t.Context(), invite.Serial)
				if got := again.redeem(invite, byte(i+1)); (got == nil) != (err == nil) {
					t.Fatalf("race %d: redeem again = %v, want %v", race, got, err)
				}
			}
		}
		if won != int(uses) {
			t.Fatalf("race %d: %d of %d redeem an invite for %d, want %d", race, won, redeemers, uses, uses)
		}
		for _, a := range admins {
			a.tell(t.Context(), invite.Serial)
			if got := a.claims.used(invite.Serial); len(got) != won || len(a.claims.losers()) != 0 {
				t.Fatalf("race %d: used = %d, losers = %v, want %d and none", race, len(got), a.claims.losers(), won)
			}
		}
	}
}

// A claim in the middle of which the admin stopped is taken up again.
func TestClaimsAreKept(t *testing.T) {
	a := newClaimAdmins(t, 1)[0]
	invite := countedInvite(1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	err := a.claims.take(ctx, invite, claimKey(1), func(context.Context, credential.Serial) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("take that is cut short = %v, want %v", err, context.Canceled)
	}
	if err := a.reload(); err != nil {
		t.Fatal(err)
	}
	if got := a.claims.of(invite.Serial); len(got) != 1 || got[0].Final || got[0].Place != 1 {
		t.Errorf("of after loadClaims = %+v, want the one that was begun", got)
	}
	if err := a.redeem(invite, 2); !errors.Is(err, ErrInviteUsed) {
		t.Errorf("take by another = %v, want %v", err, ErrInviteUsed)
	}
	if err := a.redeem(invite, 1); err != nil {
		t.Errorf("take again = %v, want nil", err)
	}
	if err := a.reload(); err != nil || len(a.claims.used(invite.Serial)) != 1 {
		t.Errorf("used after loadClaims = %v, %v, want one", a.claims.used(invite.Serial), err)
	}
	later, err := loadClaims(a.store, invite.NotAfter.Add(2*credential.ClockTolerance+2*time.Second))
	if err != nil || len(later.all) != 0 {
		t.Errorf("loadClaims after the invite has ended = %v, %v, want none", later.all, err)
	}
	if left, err := a.store.all(claimsBucket); err != nil || len(left) != 0 {
		t.Errorf("on the disk are %d claims then, %v, want none", len(left), err)
	}
}

func TestLoadClaimsRefuses(t *testing.T) {
	good := claim{Serial: credential.Serial{1}, Place: 1, Key: claimKey(1), Until: time.Now().Add(time.Hour).Unix()}
	for _, tt := range []struct {
		name, id string
		value    []byte
	}{
		{"something else", good.id(), []byte("hello")},
		{"under another's key", "x", marshaled(t, good)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newMemoryStore()
			if err := s.put(claimsBucket, map[string][]byte{tt.id: tt.value}); err != nil {
				t.Fatal(err)
			}
			if _, err := loadClaims(s, time.Now()); !errors.Is(err, ErrStateCorrupt) {
				t.Errorf("loadClaims = %v, want %v", err, ErrStateCorrupt)
			}
		})
	}
}

// What several claims to the places of an invite come to.
func TestClaimsMerge(t *testing.T) {
	until := time.Now().Add(time.Hour).Unix()
	c := func(place uint16, key byte, final bool) claim {
		return claim{Serial: credential.Serial{1}, Place: place, Key: claimKey(key), Final: final, Until: until}
	}
	first, second := byte(1), byte(2) // by their rank at place 1
	if c(1, 2, false).rank(c(1, 1, false)) < 0 {
		first, second = 2, 1
	}
	for _, tt := range []struct {
		name   string
		list   []claim
		winner byte
		losers int
	}{
		{"one", []claim{c(1, 2, false)}, 2, 0},
		{"two, by rank", []claim{c(1, first, false), c(1, second, false)}, first, 0},
		{"a final one against one that is not", []claim{c(1, first, false), c(1, second, true)}, second, 0},
		{"two final ones, by rank", []claim{c(1, first, true), c(1, second, true)}, first, 1},
		{"one that became final", []claim{c(1, second, false), c(1, first, false), c(1, second, true)}, second, 0},
		{"one that was final and is said not to be", []claim{c(1, second, true), c(1, second, false), c(1, first, false)}, second, 0},
		{"the loser has another place", []claim{c(1, first, true), c(1, second, true), c(2, second, true)}, first, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			oneByOne, atOnce := newClaimAdmins(t, 1)[0], newClaimAdmins(t, 1)[0]
			for _, c := range tt.list {
				if err := oneByOne.claims.merge(c); err != nil {
					t.Fatal(err)
				}
			}
			if err := atOnce.claims.merge(tt.list...); err != nil {
				t.Fatal(err)
			}
			for _, a := range []*claimAdmin{oneByOne, atOnce} {
				for range 2 { // in memory, and from the disk
					got, ok := a.claims.winner(credential.Serial{1}, 1)
					if !ok || got.Key != claimKey(tt.winner) {
						t.Errorf("winner = %x, %v, want %d", got.Key[:1], ok, tt.winner)
					}
					if got := a.claims.losers(); len(got) != tt.losers {
						t.Errorf("losers = %+v, want %d", got, tt.losers)
					}
					if err := a.reload(); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

func TestClaimsMergeRefuses(t *testing.T) {
	good := claim{Serial: credential.Serial{1}, Place: 1, Key: claimKey(1), Until: 1}
	for _, tt := range []struct {
		name  string
		alter func(*claim)
	}{
		{"place 0", func(c *claim) { c.Place = 0 }},
		{"a place beyond all", func(c *claim) { c.Place = credential.MaxUses + 1 }},
		{"no end", func(c *claim) { c.Until = 0 }},
		{"an end beyond all time", func(c *claim) { c.Until = math.MaxInt64 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, bad := newClaimAdmins(t, 1)[0], good
			tt.alter(&bad)
			if err := a.claims.merge(good, bad); err == nil || len(a.claims.all) != 0 {
				t.Errorf("merge = %v, with %d taken in, want an error and none", err, len(a.claims.all))
			}
		})
	}
	a := newClaimAdmins(t, 1)[0]
	for i := range maxClaims {
		c := good
		c.Serial = credential.Serial{byte(i), byte(i >> 8)}
		a.claims.all[c.id()] = c
	}
	full := good
	full.Serial = credential.Serial{15: 1}
	if err := a.claims.merge(full); !errors.Is(err, ErrBusy) {
		t.Errorf("merge of one too many = %v, want %v", err, ErrBusy)
	}
}

// Claims go in as many frames as they need, and no more than there can be.
func TestClaimsOverSeveralFrames(t *testing.T) {
	a, b := newClaimAdmins(t, 1)[0], newClaimAdmins(t, 1)[0]
	var list []claim
	for i := range 2*claimsPerFrame + 1 {
		list = append(list, claim{Serial: credential.Serial{byte(i), byte(i >> 8)}, Place: 1, Key: claimKey(1), Until: 1 << 37})
	}
	if err := a.claims.merge(list...); err != nil {
		t.Fatal(err)
	}
	if err := a.ask(b, credential.Serial{}); err != nil || len(b.claims.all) != len(list) {
		t.Errorf("exchange = %v with %d claims, want %d", err, len(b.claims.all), len(list))
	}
	var endless bytes.Buffer
	for range maxClaimsFrames + 1 {
		data, err := wire.Marshal(claimsMessage{More: true})
		if err == nil {
			err = wire.WriteFrame(&endless, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.readClaims(&endless); err == nil {
		t.Error("readClaims of too many frames = nil, want an error")
	}
}
