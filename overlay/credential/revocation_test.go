package credential

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay/wire"
)

// A cast is a mesh with members at every distance from the root.
type cast struct {
	root    *Root
	id      MeshID
	members map[string]*Credential
	keys    map[string]byte
	invites map[string]*Invite
	old     map[string]*Credential // before somebody was renewed
	drawn   byte
}

// newCast makes
//
//	root ─┬─ alice ─┬─ bob ─┬─ carl ─┬─ eve, an admin
//	      │         │       │        ├─ kim, who was then renewed by ben
//	      │         │       │        └─ zoe, an admin who was then renewed by alice
//	      │         │       ├─ mia
//	      │         │       ├─ sam, an admin who was then renewed by alice ── tom
//	      │         │       └─ (open) ── gus
//	      │         ├─ ben ─── dora, an admin ── max
//	      │         └─ (staff) ── fay, an admin
//	      └─ amy
//
// of which those with somebody below are admins, and those in brackets invites.
func newCast() *cast {
	c := &cast{
		root:    must(NewRoot(constant(1))),
		members: map[string]*Credential{},
		keys:    map[string]byte{},
		invites: map[string]*Invite{},
		old:     map[string]*Credential{},
	}
	c.id = c.root.Mesh()
	for _, founder := range []string{"alice", "amy"} {
		c.members[founder] = must(c.root.Found(c.draw(), now, c.key(founder), founder))
	}
	c.give("alice", "bob", allRoles)
	c.give("alice", "ben", allRoles)
	c.give("bob", "carl", allRoles)
	c.give("ben", "dora", allRoles)
	c.give("carl", "eve", allRoles)
	c.give("bob", "mia", DefaultRoles)
	c.give("dora", "max", DefaultRoles)
	c.invite("alice", "staff", Terms{Roles: allRoles})
	c.join("staff", "fay")
	c.invite("bob", "open", Terms{})
	c.join("open", "gus")
	c.give("carl", "kim", DefaultRoles)
	c.renew("ben", "kim")
	c.give("carl", "zoe", allRoles)
	c.renew("alice", "zoe")
	c.give("bob", "sam", allRoles)
	c.renew("alice", "sam")
	c.give("sam", "tom", DefaultRoles)
	return c
}

// draw returns randomness that was not used before.
func (c *cast) draw() constant {
	c.drawn++
	return constant(c.drawn)
}

// seed returns the byte that a name's key is made of.
func (c *cast) seed(name string) byte {
	if c.keys[name] == 0 {
		c.keys[name] = byte(100 + len(c.keys))
	}
	return c.keys[name]
}

func (c *cast) key(name string) ed25519.PublicKey { return testPublic(c.seed(name)) }

func (c *cast) issuer(name string) *Issuer {
	if name == "root" {
		return c.root.Issuer()
	}
	return must(NewIssuer(c.id, testKey(c.seed(name)), c.members[name]))
}

func (c *cast) give(by, name string, roles Roles) {
	c.members[name] = must(c.issuer(by).IssueNode(c.draw(), now, c.key(name), Terms{Name: name, Roles: roles}))
}

func (c *cast) invite(by, name string, terms Terms) {
	c.invites[name] = must(c.issuer(by).IssueInvite(varied(c.seed(name)), now, terms, nil))
}

func (c *cast) join(invite, name string) {
	c.members[name] = must(c.invites[invite].IssueNode(c.draw(), now, c.key(name), name))
}

func (c *cast) renew(by, name string) {
	c.old[name] = c.members[name]
	c.members[name] = must(c.issuer(by).Renew(c.draw(), now, must(c.members[name].Verify(c.id, now)), now.Add(time.Hour)))
}

// A deed is a revocation in the words of a test.
type deed struct {
	by, of string
	serial bool      // name an invite by its serial
	since  time.Time // take along whom it admitted
	keep   []string
	made   []int // of the deeds before, those to keep
	old    bool  // by the credential that the issuer had before it was renewed
}

func (c *cast) terms(d deed) RevokeTerms {
	t := RevokeTerms{Since: d.since}
	switch inv := c.invites[d.of]; {
	case d.serial:
		t.Invite = inv.ID()
	case inv != nil:
		t.Key = inv.Grant().Key
	default:
		t.Key = c.key(d.of)
	}
	for _, name := range d.keep {
		t.Keep = append(t.Keep, c.members[name])
	}
	return t
}

func (c *cast) revoke(deeds ...deed) []*Revocation {
	var all []*Revocation
	for _, d := range deeds {
		issuer, terms := c.issuer(d.by), c.terms(d)
		if d.old {
			issuer = must(NewIssuer(c.id, testKey(c.seed(d.by)), c.old[d.by]))
		}
		for _, i := range d.made {
			terms.KeepMade = append(terms.KeepMade, all[i])
		}
		all = append(all, must(issuer.Revoke(now, terms)))
	}
	return all
}

// out lists who of all members and invites is revoked, in order.
func (c *cast) out(s *Revocations) []string {
	var out []string
	for name, member := range c.members {
		if s.Check(member) != nil {
			out = append(out, name)
		}
	}
	for name, inv := range c.invites {
		if s.check(inv.chain) != nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func TestRevoke(t *testing.T) {
	c := newCast()
	c.invite("alice", "one", Terms{Roles: allRoles, Uses: 1})
	c.join("one", "una")
	invite := &Issuer{mesh: c.id, key: c.invites["open"].key, chain: c.invites["open"].chain}
	elsewhere := must(NewIssuer(newTestMesh(t, 50).id, testKey(c.seed("bob")), c.members["bob"]))
	many := make([]*Revocation, MaxKept+1)
	for i := range many {
		many[i] = &Revocation{id: sha256.Sum256([]byte{byte(i), byte(i >> 8)})}
	}
	key := func(name string) RevokeTerms { return RevokeTerms{Key: c.key(name)} }
	for _, tt := range []struct {
		name   string
		issuer *Issuer
		now    time.Time
		terms  RevokeTerms
		want   error
		says   string
	}{
		{"the root, a founder", c.issuer("root"), now, key("alice"), nil, ""},
		{"a founder, an admin", c.issuer("alice"), now, key("bob"), nil, ""},
		{"an admin, a member", c.issuer("eve"), now, key("mia"), nil, ""},
		{"an admin who came by an invite", c.issuer("fay"), now, key("mia"), nil, ""},
		{"an admin, itself", c.issuer("bob"), now, key("bob"), nil, ""},
		{"an admin, by a serial", c.issuer("bob"), now, RevokeTerms{Invite: c.invites["open"].ID()}, nil, ""},
		{"as many kept as there may be", c.issuer("bob"), now, RevokeTerms{Key: c.key("carl"), KeepMade: many[1:]}, nil, ""},
		{"a member, itself", c.issuer("mia"), now, key("mia"), nil, ""},

		{"a member, another", c.issuer("mia"), now, key("gus"), ErrNotAllowed, `credential of "mia" is no admin and can revoke itself alone`},
		{"a member, an invite", c.issuer("mia"), now, RevokeTerms{Invite: c.invites["open"].ID()}, ErrNotAllowed, "itself alone"},
		{"a member, itself and others", c.issuer("mia"), now, RevokeTerms{Key: c.key("mia"), Since: now}, ErrNotAllowed, "itself alone"},
		{"a member, itself but for some", c.issuer("mia"), now, RevokeTerms{Key: c.key("mia"), Keep: []*Credential{c.members["gus"]}}, ErrNotAllowed, "itself alone"},
		{"an invite's key", invite, now, RevokeTerms{Key: c.key("mia")}, ErrNotAllowed, "an invite cannot revoke"},
		{"an invite's key, itself", invite, now, RevokeTerms{Key: c.invites["open"].Grant().Key}, ErrNotAllowed, "an invite cannot revoke"},
		{"one not yet redeemed", c.issuer("una"), now, key("mia"), ErrUnredeemed, "revoke"},
		{"one not yet redeemed, itself", c.issuer("una"), now, key("una"), ErrUnredeemed, "revoke"},
		{"an admin of another mesh", elsewhere, now, key("mia"), ErrWrongMesh, "issuer's own"},
		{"an admin whose time is over", c.issuer("bob"), now.Add(FounderLifetime), key("mia"), ErrExpired, "issuer's own"},
		{"an admin whose time has not come", c.issuer("bob"), now.Add(-time.Hour), key("mia"), ErrNotYetValid, "issuer's own"},
		{"nobody", c.issuer("bob"), now, RevokeTerms{}, ErrInvalid, "no target"},
		{"the key of zeros", c.issuer("bob"), now, RevokeTerms{Key: make([]byte, 32)}, ErrInvalid, "no target"},
		{"part of a key", c.issuer("bob"), now, RevokeTerms{Key: c.key("mia")[:31]}, ErrInvalid, "31 bytes is neither a key nor a serial"},
		{"whom a serial admitted", c.issuer("bob"), now, RevokeTerms{Invite: c.invites["open"].ID(), Since: now}, ErrInvalid, "of a serial"},
		{"more kept than there may be", c.issuer("bob"), now, RevokeTerms{Key: c.key("carl"), KeepMade: many}, ErrInvalid, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := tt.issuer.Revoke(tt.now, tt.terms)
			checkErr(t, "Revoke", err, tt.want, tt.says)
			if err != nil {
				return
			}
			got, err := ParseRevocation(r.Marshal())
			if err != nil {
				t.Fatalf("ParseRevocation = %v, want nil", err)
			}
			if err := got.Verify(c.id); err != nil || got.ID() != r.ID() || !got.Made().Equal(tt.now) {
				t.Errorf("revocation %x made %v, Verify = %v, want %x made %v, nil", got.ID(), got.Made(), err, r.ID(), tt.now)
			}
			checkErr(t, "Verify in another mesh", got.Verify(newTestMesh(t, 50).id), ErrWrongMesh, "")
			checkErr(t, "Verify in no mesh", got.Verify(MeshID{}), ErrWrongMesh, "zero")
		})
	}
}

func TestRevocationSaysByWhom(t *testing.T) {
	c := newCast()
	for by, want := range map[string]string{"root": "the root", "bob": "bob"} {
		r := c.revoke(deed{by: by, of: "mia"})[0]
		if r.By() != want || !strings.Contains(r.String(), want) {
			t.Errorf("By = %q, String = %q, want %q", r.By(), r, want)
		}
	}
}

// forgeRevocation signs claims with a key, whether or not it is allowed.
func forgeRevocation(mesh MeshID, key byte, claims revocationClaims) []byte {
	message := must(claims.message(mesh))
	return must(wire.Marshal(revocationWire{Claims: claims, Signature: [64]byte(ed25519.Sign(testKey(key), message))}))
}

func TestParseRevocationRefuses(t *testing.T) {
	c := newCast()
	claims := c.revoke(deed{by: "bob", of: "mia", keep: []string{"carl", "eve"}})[0].wire.Claims
	good := forgeRevocation(c.id, c.seed("bob"), claims)
	changed := func(change func(*revocationClaims)) []byte {
		other := claims
		other.Kept = slices.Clone(claims.Kept)
		other.Issuer = slices.Clone(claims.Issuer)
		change(&other)
		return forgeRevocation(c.id, c.seed("bob"), other)
	}
	for _, tt := range []struct {
		name string
		data []byte
		says string
	}{
		{"nothing", nil, "malformed"},
		{"something else", []byte("hello"), "malformed"},
		{"a credential", c.members["bob"].Marshal(), "malformed"},
		{"more than the limit", make([]byte, MaxRevocation+1), "at most"},
		{"cut off", good[:len(good)-1], "malformed"},
		{"bytes behind it", append(slices.Clone(good), 0), "malformed"},
		{"a length in a longer form", bytes.Replace(good, []byte{0x01, 0x58, 0x20}, []byte{0x01, 0x59, 0x00, 0x20}, 1), "malformed"},
		{"no target", changed(func(c *revocationClaims) { c.Target = nil }), "neither a key nor a serial"},
		{"a target of zeros", changed(func(c *revocationClaims) { c.Target = make([]byte, 16) }), "no target"},
		{"a target of another length", changed(func(c *revocationClaims) { c.Target = append(c.Target, 1) }), "33 bytes"},
		{"made before 1970", changed(func(c *revocationClaims) { c.Made = -1 }), "made at second -1"},
		{"made after 9999", changed(func(c *revocationClaims) { c.Made = maxTime + 1 }), "made at second"},
		{"since before 1970", changed(func(c *revocationClaims) { c.Since = -1 }), "since -1"},
		{"since after 9999", changed(func(c *revocationClaims) { c.Since = maxTime + 1 }), "since"},
		{"since with a serial", changed(func(c *revocationClaims) { c.Target, c.Since = c.Target[:16], 1 }), "of a serial"},
		{"kept out of order", changed(func(c *revocationClaims) { slices.Reverse(c.Kept) }), "in order"},
		{"kept twice", changed(func(c *revocationClaims) { c.Kept[0] = c.Kept[1] }), "in order"},
		{"an issuer that is none", changed(func(c *revocationClaims) { c.Issuer[0].Claims.Name = "Bob" }), `name "Bob"`},
		{"a chain too long", changed(func(c *revocationClaims) { c.Issuer = slices.Repeat(c.Issuer, 3) }), "6 grants"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ParseRevocation(tt.data)
			checkErr(t, "ParseRevocation", err, ErrInvalid, tt.says)
			if r != nil {
				t.Errorf("ParseRevocation = %v along with an error, want nil", r)
			}
		})
	}
}

// Who signs is no matter of what is signed: what Revoke refuses is refused to one
// who signs it all the same.
func TestVerifyRevocationRefuses(t *testing.T) {
	c := newCast()
	c.invite("alice", "one", Terms{Roles: allRoles, Uses: 1})
	c.join("one", "una")
	mia := revocationClaims{Target: c.key("mia"), Made: now.Unix()}
	by := func(chain []grant, change func(*revocationClaims)) revocationClaims {
		claims := mia
		claims.Issuer = chain
		if change != nil {
			change(&claims)
		}
		return claims
	}
	bob := c.members["bob"].chain
	for _, tt := range []struct {
		name   string
		signer byte
		claims revocationClaims
		want   error
	}{
		{"as it should be", c.seed("bob"), by(bob, nil), nil},
		{"by the root's key in an admin's name", 1, by(bob, nil), ErrInvalid},
		{"by an admin in the root's name", c.seed("bob"), mia, ErrWrongMesh},
		{"by another admin in an admin's name", c.seed("ben"), by(bob, nil), ErrInvalid},
		{"by a member", c.seed("gus"), by(c.members["gus"].chain, nil), ErrNotAllowed},
		{"by a member who takes others along", c.seed("mia"), by(c.members["mia"].chain, func(r *revocationClaims) { r.Since = 1 }), ErrNotAllowed},
		{"by one who made itself an admin", c.seed("gus"), by(append(forge(t, c.seed("mia"), []link{{c.seed("gus"), bob[0].Claims}}), c.members["mia"].chain...), nil), ErrNotAllowed},
		{"by one not yet redeemed", c.seed("una"), by(c.members["una"].chain, nil), ErrUnredeemed},
		{"before the admin was one", c.seed("bob"), by(bob, func(r *revocationClaims) { r.Made -= 601 }), ErrNotYetValid},
		{"after the admin was one", c.seed("bob"), by(bob, func(r *revocationClaims) { r.Made = bob[0].Claims.NotAfter + 601 }), ErrExpired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "by one who made itself an admin" {
				// forge signs for the mesh of the key it is given, which mia's is not.
				g := &tt.claims.Issuer[0]
				g.Signature = [64]byte(ed25519.Sign(testKey(c.seed("mia")), must(g.Claims.message(c.id))))
			}
			r, err := ParseRevocation(forgeRevocation(c.id, tt.signer, tt.claims))
			if err != nil {
				t.Fatalf("ParseRevocation = %v, want nil", err)
			}
			checkErr(t, "Verify", r.Verify(c.id), tt.want, "verify revocation by")
		})
	}
}

// Whatever bit of a revocation is changed, it is none any more.
func TestVerifyRevocationRefusesFlippedBits(t *testing.T) {
	c := newCast()
	for _, d := range []deed{
		{by: "root", of: "alice", since: now},
		{by: "carl", of: "eve", keep: []string{"kim", "mia"}},
		{by: "mia", of: "mia"},
	} {
		data := c.revoke(d)[0].Marshal()
		for bit := range 8 * len(data) {
			data[bit/8] ^= 1 << (bit % 8)
			r, err := ParseRevocation(data)
			if err == nil {
				err = r.Verify(c.id)
			}
			if err == nil {
				t.Errorf("revocation by %s with bit %d flipped verifies, want an error", d.by, bit)
			}
			data[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// Nothing of a revocation in one mesh can stand in that of another, not even by the
// same admin, who is in both.
func TestVerifyRevocationRefusesSwappedFields(t *testing.T) {
	c := newCast()
	links := goodLinks()[2:]
	other := MeshID(testPublic(9))
	ours := c.revoke(deed{by: "bob", of: "carl", since: now, keep: []string{"eve"}})[0].wire
	theirs := revocationWire{Claims: revocationClaims{
		Target: c.key("mia"), Made: now.Unix() + 1, Since: 1, Kept: []Hash{{1}}, Issuer: forge(t, 9, links),
	}}
	theirs.Signature = [64]byte(ed25519.Sign(testKey(links[0].subject), must(theirs.Claims.message(other))))
	if err := must(ParseRevocation(must(wire.Marshal(theirs)))).Verify(other); err != nil {
		t.Fatalf("Verify in the other mesh = %v, want nil", err)
	}
	for _, field := range []struct {
		name string
		take func(to *revocationWire, from revocationWire)
	}{
		{"target", func(to *revocationWire, from revocationWire) { to.Claims.Target = from.Claims.Target }},
		{"made", func(to *revocationWire, from revocationWire) { to.Claims.Made = from.Claims.Made }},
		{"since", func(to *revocationWire, from revocationWire) { to.Claims.Since = from.Claims.Since }},
		{"kept", func(to *revocationWire, from revocationWire) { to.Claims.Kept = from.Claims.Kept }},
		{"issuer", func(to *revocationWire, from revocationWire) { to.Claims.Issuer = from.Claims.Issuer }},
		{"claims", func(to *revocationWire, from revocationWire) { to.Claims = from.Claims }},
		{"signature", func(to *revocationWire, from revocationWire) { to.Signature = from.Signature }},
		{"all", func(to *revocationWire, from revocationWire) { *to = from }},
	} {
		mixed := ours
		field.take(&mixed, theirs)
		data := must(wire.Marshal(mixed))
		if bytes.Equal(data, must(wire.Marshal(ours))) {
			t.Errorf("%s is the same in both, which tests nothing", field.name)
		}
		if err := must(ParseRevocation(data)).Verify(c.id); err == nil {
			t.Errorf("Verify with %s from another mesh = nil, want an error", field.name)
		}
	}
}

// A signature on anything else that an admin's key signs is none on a revocation.
func TestVerifyRevocationRefusesOtherContexts(t *testing.T) {
	c := newCast()
	claims := revocationClaims{Target: c.key("mia"), Made: now.Unix(), Issuer: c.members["bob"].chain}
	data := must(wire.Marshal(claims))
	for _, context := range []string{"", grantContext, "p2pnode presence v1\x00", "p2pnode revocation v1", "libp2p-tls-handshake:"} {
		signed := ed25519.Sign(testKey(c.seed("bob")), slices.Concat([]byte(context), c.id[:], data))
		r := must(ParseRevocation(must(wire.Marshal(revocationWire{Claims: claims, Signature: [64]byte(signed)}))))
		checkErr(t, "Verify of what was signed as "+context, r.Verify(c.id), ErrInvalid, "not by the issuer's key")
	}
}

func FuzzParseRevocation(f *testing.F) {
	c := newCast()
	signed := map[Hash]bool{}
	for _, r := range c.revoke(
		deed{by: "root", of: "alice", since: time.Unix(1, 0)}, deed{by: "bob", of: "carl", keep: []string{"eve", "kim"}},
		deed{by: "ben", of: "open", serial: true}, deed{by: "gus", of: "gus"}) {
		signed[r.ID()] = true
		f.Add(r.Marshal())
	}
	f.Add([]byte{0x82, 0xa0, 0x40})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRevocation(data)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || r != nil {
				t.Errorf("ParseRevocation = %v, %v, want nil, %v", r, err, ErrInvalid)
			}
			return
		}
		if got := r.Marshal(); !bytes.Equal(got, data) {
			t.Errorf("ParseRevocation, then Marshal = %x, want %x", got, data)
		}
		_, _ = r.By(), r.String()
		if err := r.Verify(c.id); err == nil && !signed[r.ID()] {
			t.Errorf("Verify of %x = nil, want an error: nobody signed it", data)
		}
		for name, member := range c.members {
			_ = r.Reaches(member)
			s := NewRevocations(c.id)
			s.Add(r)
			if err := s.Check(member); err != nil && !errors.Is(err, ErrRevoked) {
				t.Errorf("Check of %s = %v, want nil or %v", name, err, ErrRevoked)
			}
		}
	})
}

// What decoding takes is bounded by what the bytes can hold, whatever they say.
func TestParseRevocationTakesLittleMemory(t *testing.T) {
	huge := [][]byte{
		bytes.Repeat([]byte{0x40}, MaxRevocation),
		append([]byte{0x82, 0xa3, 0x01, 0x40, 0x02, 0x00, 0x04, 0x99, 0x04, 0x00}, bytes.Repeat([]byte{0x40}, MaxRevocation-10)...),
		append([]byte{0x82, 0xa3, 0x01, 0x40, 0x02, 0x00, 0x05, 0x9a, 0xff, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{0x82, 0xa0, 0x40}, 10000)...),
		append([]byte{0x82, 0xa3, 0x01, 0x40, 0x02, 0x00, 0x05, 0x99, 0x04, 0x00}, bytes.Repeat([]byte{0x82, 0xa0, 0x40}, 10000)...),
		{0x82, 0xa1, 0x01, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
	for i, data := range huge {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ParseRevocation(data)
		runtime.ReadMemStats(&after)
		checkErr(t, "ParseRevocation", err, ErrInvalid, "")
		got := after.TotalAlloc - before.TotalAlloc
		if limit := uint64(2 << 20); got > limit {
			t.Errorf("ParseRevocation of input %d took %d bytes of memory, want at most %d", i, got, limit)
		}
	}
}
