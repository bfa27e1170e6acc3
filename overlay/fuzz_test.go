package overlay

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
)

// fuzzMessage holds a kind of message to its one encoding: what is read is written
// as the same bytes.
func fuzzMessage[T any](f *testing.F, seeds ...T) {
	f.Helper()
	for _, v := range seeds {
		data, err := wire.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{})
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, in []byte) {
		var v T
		if err := wire.Unmarshal(in, &v); err != nil {
			return
		}
		if out, err := wire.Marshal(v); err != nil || !bytes.Equal(out, in) {
			t.Errorf("%x is read as %+v, which is written as %x, %v", in, v, out, err)
		}
	})
}

func FuzzShown(f *testing.F) {
	fuzzMessage(f, shown{}, shown{Credential: []byte{1, 2, 3}, Granted: []byte{4}})
}

func FuzzHeld(f *testing.F) {
	id := credential.Hash(sha256.Sum256(nil))
	fuzzMessage(f, held{}, held{Digest: id, IDs: []credential.Hash{id, {}}}, held{Digest: id, New: []byte{1}})
}

func FuzzRedeemed(f *testing.F) {
	fuzzMessage(f, redeemed{Code: uint8(refusedInviteUsed)}, redeemed{Credential: []byte{1}})
}

func FuzzListed(f *testing.F) {
	fuzzMessage(f, listed{}, listed{Streams: []string{"db", "web"}}, listed{[]string{"web"}, []string{"dns"}, []uint16{8000, 8999, 0}})
}

// What is told of services is checked before it is believed.
func TestListedIsChecked(t *testing.T) {
	for name, l := range map[string]listed{
		"a name that is none":    {Streams: []string{"a b"}},
		"datagrams of no name":   {Datagrams: []string{""}},
		"one port":               {Ports: []uint16{1}},
		"ports of no kind":       {Ports: []uint16{1, 2, 9}},
		"ports in another order": {Ports: []uint16{2, 1, 0}},
		"port 0":                 {Ports: []uint16{0, 1, 0}},
	} {
		if got, err := l.services(); err == nil {
			t.Errorf("%s = %v, want an error", name, got)
		}
	}
}

func FuzzBookedInvite(f *testing.F) {
	fuzzMessage(f, bookedInvite{}, bookedInvite{Name: "bob", Roles: credential.DefaultRoles, Made: 1, NotAfter: 2, Uses: 3, Services: []string{"web"}})
}

func FuzzClaimsMessage(f *testing.F) {
	c := claim{Serial: credential.Serial{1}, Place: 1, Key: claimKey(1), Final: true, Until: 1 << 37}
	fuzzMessage(f, claimsMessage{}, claimsMessage{Serial: c.Serial, Claims: []claim{c}, More: true})
}

// Whatever an admin is sent, what it takes in is valid, and is the same once it is
// read from the disk.
func FuzzReadClaims(f *testing.F) {
	c := claim{Serial: credential.Serial{1}, Place: 1, Key: claimKey(1), Until: 1 << 37}
	final, next := c, c
	final.Final, next.Place = true, 2
	for _, list := range [][]claim{nil, {c}, {c, final}, {final, c}, {c, next}} {
		var b bytes.Buffer
		if err := writeClaims(&b, c.Serial, list); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		a := newClaimAdmins(t, 1)[0]
		_, _ = a.readClaims(bytes.NewReader(in)) // what came before an error stays
		before := a.claims.all
		loaded, err := loadClaims(a.store, time.Unix(0, 0))
		if err != nil || len(loaded.all) != len(before) {
			t.Fatalf("loadClaims of what %x left = %d, %v, want %d", in, len(loaded.all), err, len(before))
		}
		for id, c := range before {
			if err := c.checkForm(); err != nil || loaded.all[id] != c {
				t.Errorf("%x left %+v, %v, and %+v on the disk", in, c, err, loaded.all[id])
			}
		}
	})
}

// What a member is sent as revocations it takes or refuses, and does not hang.
func FuzzReadRevocations(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0xa0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		got, err := readRevocations(r)
		var out bytes.Buffer
		for _, x := range got {
			if err := wire.WriteFrame(&out, x.Marshal()); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(in, out.Bytes()) || err == nil && out.Len() != len(in) {
			t.Errorf("readRevocations(%x) = %d, %v, which are written as %x", in, len(got), err, out.Bytes())
		}
		if rest, _ := io.ReadAll(r); err == nil && len(rest) > 0 {
			t.Errorf("readRevocations(%x) left %x", in, rest)
		}
	})
}
