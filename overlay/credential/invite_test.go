package credential

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/p2pnode/p2pnode/overlay/wire"
)

func TestInviteText(t *testing.T) {
	m := newTestMesh(t, 1)
	others := append(testStart(t), peer.AddrInfo{ID: testPeer(t, 77), Addrs: addrs(t, "/dns/example.org/tcp/443/tls/ws")})
	for _, tt := range []struct {
		name   string
		invite *Invite
	}{
		{"one peer", m.invite},
		{"bound to a name", must(m.admin.IssueInvite(constant(6), now, Terms{Name: "eve"}, testStart(t)))},
		{"a peer without an address", must(m.admin.IssueInvite(constant(6), now, Terms{}, []peer.AddrInfo{{ID: testPeer(t, 2)}, others[1]}))},
		{"no peer", must(m.admin.IssueInvite(constant(6), now, Terms{}, nil))},
		{"two peers", must(m.admin.IssueInvite(constant(6), now, Terms{}, others))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseInvite(tt.invite.Text())
			if err != nil {
				t.Fatalf("ParseInvite = %v, want nil", err)
			}
			if got.Text() != tt.invite.Text() {
				t.Errorf("ParseInvite(text).Text() = %q, want %q", got.Text(), tt.invite.Text())
			}
			if got.ID() != tt.invite.ID() || got.Mesh() != m.id || got.key.bytes() != tt.invite.key.bytes() {
				t.Errorf("ParseInvite = invite %v to mesh %v, want %v to %v and the same key", got.ID(), got.Mesh(), tt.invite.ID(), m.id)
			}
			if g, w := fmt.Sprint(got.Start()), fmt.Sprint(tt.invite.Start()); g != w {
				t.Errorf("Start = %v, want %v", g, w)
			}
			if err := got.Verify(now); err != nil {
				t.Errorf("Verify = %v, want nil", err)
			}
		})
	}
}

// One peer with four addresses is the usual invite, and it has to fit a message
// and a glance.
func TestInviteTextIsShort(t *testing.T) {
	text := newTestMesh(t, 1).invite.Text()
	t.Logf("one peer with 4 addresses: %d characters", len(text))
	if len(text) >= 600 {
		t.Errorf("invite has %d characters, want fewer than 600", len(text))
	}
}

func TestParseInviteTolerates(t *testing.T) {
	want := newTestMesh(t, 1).invite.Text()
	var wrapped strings.Builder
	for i := 0; i < len(want); i += 40 {
		wrapped.WriteString("  " + want[i:min(i+40, len(want))] + "\r\n")
	}
	for _, tt := range []struct{ name, text string }{
		{"white space around", "\n\t " + want + " \r\n"},
		{"wrapped lines", wrapped.String()},
		{"a space that does not break", want[:9] + "\u00a0" + want[9:]},
		{"upper case", strings.ToUpper(want)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseInvite(tt.text)
			if err != nil {
				t.Fatalf("ParseInvite = %v, want nil", err)
			}
			if got.Text() != want {
				t.Errorf("ParseInvite = %q, want %q", got.Text(), want)
			}
		})
	}
}

func TestParseInviteRefuses(t *testing.T) {
	text := newTestMesh(t, 1).invite.Text()
	n := len(text)
	other := func(c byte) string {
		if c == 'a' {
			return "b"
		}
		return "a"
	}
	for _, tt := range []struct {
		name, text string
		want       error
		says       string
	}{
		{"nothing", "", ErrNotInvite, `"p2pnode1"`},
		{"something else", "hello", ErrNotInvite, `"p2pnode1"`},
		{"the prefix without version", "p2pnode", ErrNotInvite, ""},
		{"a mesh ID", MeshID{}.String(), ErrNotInvite, ""},
		{"text before it", "invite: " + text, ErrNotInvite, ""},
		{"a version there never was", "p2pnode0" + text[8:], ErrNotInvite, ""},
		{"a name like the prefix", "p2pnodes", ErrNotInvite, ""},
		{"a newer version", "p2pnode2" + text[8:], ErrNewerInvite, "version 2; this program knows version 1"},
		{"the prefix alone", "p2pnode1", ErrMistyped, "cut off: 8 characters"},
		{"cut off in the length", text[:11], ErrMistyped, "cut off: 11 characters"},
		{"cut off after the length", text[:12], ErrMistyped, fmt.Sprintf("cut off: 12 characters of %d", n)},
		{"cut off by one", text[:n-1], ErrMistyped, fmt.Sprintf("cut off: %d characters of %d", n-1, n)},
		{"text behind it", text + " see you!", ErrMistyped, fmt.Sprintf("more text behind it: %d characters, of which the invite is %d", n+7, n)},
		{"twice", text + "\n" + text, ErrMistyped, "more text behind it"},
		{"a wrong letter", text[:99] + other(text[99]) + text[100:], ErrMistyped, "checksum"},
		{"a wrong letter at the end", text[:n-1] + other(text[n-1]), ErrMistyped, ""},
		{"a digit there is not", text[:99] + "0" + text[100:], ErrMistyped, "a to z and 2 to 7"},
		{"a digit there is not, at the beginning", text[:9] + "0" + text[10:], ErrMistyped, "a to z and 2 to 7"},
		{"a letter that only lowers to one", text[:99] + "\u212a" + text[100:], ErrMistyped, ""},
		{"a length that cannot be", text[:8] + "7777" + text[12:], ErrMistyped, "near its beginning"},
		{"too much text", text + strings.Repeat(" ", MaxInviteText), ErrInvalid, "bytes of text; at most 8192"},
		{"an empty payload", wrap(nil), ErrInvalid, "malformed"},
		{"a payload that is none", wrap([]byte("hello")), ErrInvalid, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv, err := ParseInvite(tt.text)
			checkErr(t, "ParseInvite", err, tt.want, tt.says)
			if inv != nil {
				t.Errorf("ParseInvite = %v along with an error, want nil", inv)
			}
			if errors.Is(tt.want, ErrMistyped) && !errors.Is(err, ErrInvalid) {
				t.Errorf("ParseInvite = %v, want %v too", err, ErrInvalid)
			}
			if err != nil && strings.Contains(err.Error(), text[30:60]) {
				t.Errorf("ParseInvite = %q, which repeats the invite", err)
			}
		})
	}
}

// A text whose checksum fits can still be no invite.
func TestParseInviteRefusesPayloads(t *testing.T) {
	m := newTestMesh(t, 1)
	for _, tt := range []struct {
		name   string
		change func(w *inviteWire)
		says   string
	}{
		{"no chain", func(w *inviteWire) { w.Chain = nil }, "no grant"},
		{"a chain too long", func(w *inviteWire) { w.Chain = append(w.Chain, m.bob.chain...) }, "5 grants; at most 4"},
		{"not an invite's grant", func(w *inviteWire) { w.Chain, w.Start = m.alice.chain, nil }, "not an invite's"},
		{"the subject spelled out", func(w *inviteWire) { w.Chain[0] = m.invite.chain[0] }, "canonical"},
		{"the issuer's key spelled out", func(w *inviteWire) { w.Start[0].Key = testPublic(2) }, "canonical"},
		{"part of a key", func(w *inviteWire) { w.Start[0].Key = testPublic(2)[1:] }, "peer to start from"},
		{"the issuer, in an invite of the root", func(w *inviteWire) { w.Chain = w.Chain[:1] }, "peer to start from"},
		{"too many addresses", func(w *inviteWire) {
			for range MaxAddrs {
				w.Start[0].Addrs = append(w.Start[0].Addrs, w.Start[0].Addrs[0])
			}
		}, "addresses of peer"},
		{"an empty address", func(w *inviteWire) { w.Start[0].Addrs = [][]byte{{}} }, "peer to start from"},
		{"what is no address", func(w *inviteWire) { w.Start[0].Addrs = [][]byte{[]byte("hello")} }, "peer to start from"},
		{"an address with its peer", func(w *inviteWire) {
			w.Start[0].Addrs = [][]byte{addrs(t, "/p2p/"+testPeer(t, 2).String())[0].Bytes()}
		}, "ends in /p2p"},
		{"too many peers", func(w *inviteWire) {
			for range MaxPeers {
				w.Start = append(w.Start, w.Start[0])
			}
		}, "9 peers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := payloadOf(t, m.invite)
			tt.change(&w)
			_, err := ParseInvite(wrap(must(wire.Marshal(w))))
			checkErr(t, "ParseInvite", err, ErrInvalid, tt.says)
			if errors.Is(err, ErrMistyped) {
				t.Errorf("ParseInvite = %v, want it not to be %v", err, ErrMistyped)
			}
		})
	}
}

func payloadOf(t testing.TB, inv *Invite) inviteWire {
	t.Helper()
	var w inviteWire
	if err := wire.Unmarshal(must(unwrap(inv.Text())), &w); err != nil {
		t.Fatal(err)
	}
	return w
}

// Text of another form for the same payload would be a second text for one invite.
func TestParseInviteRefusesSpareBits(t *testing.T) {
	m := newTestMesh(t, 1)
	for n := range 5 { // at most one length in five leaves no bit over
		invite := must(m.admin.IssueInvite(constant(6), now, Terms{Name: strings.Repeat("n", n+1)}, nil))
		text := invite.Text()
		last := strings.IndexByte("abcdefghijklmnopqrstuvwxyz234567", text[len(text)-1])
		spare := text[:len(text)-1] + string("abcdefghijklmnopqrstuvwxyz234567"[last^1])
		if _, err := ParseInvite(spare); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseInvite with the last bit flipped = %v, want %v", err, ErrInvalid)
		}
	}
}

func TestParseInviteRefusesTruncated(t *testing.T) {
	text := newTestMesh(t, 1).invite.Text()
	for n := range text {
		want := ErrMistyped
		if n < len("p2pnode1") {
			want = ErrNotInvite
		}
		if _, err := ParseInvite(text[:n]); !errors.Is(err, want) {
			t.Errorf("ParseInvite of %d characters of %d = %v, want %v", n, len(text), err, want)
		}
	}
}

// Whatever bit of an invite's text is changed, it is no invite any more, unless
// it is the one that makes a letter upper case.
func TestParseInviteRefusesFlippedBits(t *testing.T) {
	text := newTestMesh(t, 1).invite.Text()
	for bit := range 8 * len(text) {
		flipped := []byte(text)
		flipped[bit/8] ^= 1 << (bit % 8)
		if _, err := ParseInvite(string(flipped)); err == nil && !strings.EqualFold(string(flipped), text) {
			t.Errorf("ParseInvite with bit %d flipped = nil, want an error", bit)
		}
	}
}

// Nor does a checksum made anew help: all but the start addresses is signed.
func TestInviteRefusesFlippedPayloadBits(t *testing.T) {
	inv := newTestMesh(t, 1).invite
	payload := must(unwrap(inv.Text()))
	signed := len(payload) - len(must(wire.Marshal(payloadOf(t, inv).Start)))
	for bit := range 8 * signed {
		payload[bit/8] ^= 1 << (bit % 8)
		if inv, err := ParseInvite(wrap(payload)); err == nil && inv.Verify(now) == nil {
			t.Errorf("invite with bit %d of the payload flipped verifies, want an error", bit)
		}
		payload[bit/8] ^= 1 << (bit % 8)
	}
}

func TestInviteVerify(t *testing.T) {
	m, other := newTestMesh(t, 1), newTestMesh(t, 101)
	w := payloadOf(t, m.invite)
	w.Mesh = other.id
	moved := must(ParseInvite(wrap(must(wire.Marshal(w)))))
	for _, tt := range []struct {
		name   string
		invite *Invite
		now    time.Time
		want   error
		says   string
	}{
		{"good", m.invite, now, nil, ""},
		{"expired", m.invite, now.Add(48 * time.Hour), ErrExpired, "verify invite " + m.invite.ID().String() + ": expired: ended 2026-01-03T03:04:05Z, 24h0m0s ago"},
		{"not yet valid", m.invite, now.Add(-time.Hour), ErrNotYetValid, "a clock is wrong"},
		{"of another mesh", moved, now, ErrWrongMesh, "root's signature"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkErr(t, "Verify", tt.invite.Verify(tt.now), tt.want, tt.says)
		})
	}
}

func TestInviteKeepsItsStart(t *testing.T) {
	start := testStart(t)
	m := newTestMesh(t, 1)
	inv := must(m.admin.IssueInvite(constant(6), now, Terms{}, start))
	want := fmt.Sprint(inv.Start())
	start[0].Addrs[0] = nil
	inv.Start()[0].Addrs[1] = nil
	if got := fmt.Sprint(inv.Start()); got != want {
		t.Errorf("Start = %v, want %v, whatever callers do with their own", got, want)
	}
}

func TestLooksLikeInvite(t *testing.T) {
	text := newTestMesh(t, 1).invite.Text()
	for _, tt := range []struct {
		text string
		want bool
	}{
		{text, true},
		{" \n" + strings.ToUpper(text), true},
		{text[:20], true},
		{"p2pnode2abc", true},
		{"p2pnode", false},
		{"p2pnode.txt", false},
		{"./p2pnode1", false},
		{"", false},
	} {
		if got := LooksLikeInvite(tt.text); got != tt.want {
			t.Errorf("LooksLikeInvite(%.20q) = %v, want %v", tt.text, got, tt.want)
		}
	}
}

// Nothing but Text, and Key of a root, gives a secret away.
func TestSecretsAreNotPrinted(t *testing.T) {
	// Keys and serials with nothing in common, so that none shows in another.
	var m testMesh
	m.root = must(NewRoot(varied(1)))
	m.id = m.root.Mesh()
	key := must(NewRoot(varied(2))).Key()
	m.alice = must(m.root.Found(varied(3), now, key.Public().(ed25519.PublicKey), "alice"))
	m.admin = must(NewIssuer(m.id, key, m.alice))
	m.invite = must(m.admin.IssueInvite(varied(4), now, Terms{}, testStart(t)))

	type holder struct {
		Invite *Invite
		Copy   Invite
		Root   *Root
		hidden Invite // where fmt calls no method
		root   Root
		issuer *Issuer
	}
	held := holder{m.invite, *m.invite, m.root, *m.invite, *m.root, m.admin}
	for _, tt := range []struct {
		name  string
		value any
		says  string
	}{
		{"invite", m.invite, "invite " + m.invite.ID().String() + " to mesh " + m.id.String()[:8] + "…, expires 2026-01-03T03:04:05Z"},
		{"copy of an invite", *m.invite, m.invite.String()},
		{"zero invite", Invite{}, "no invite"},
		{"root", m.root, "root of mesh " + m.id.String()[:8] + "…"},
		{"copy of a root", *m.root, m.root.String()},
		{"issuer", m.admin, ""},
		{"copy of an issuer", *m.admin, ""},
		{"in a struct", held, ""},
		{"pointer to a struct", &held, ""},
		{"list", []holder{held}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, printed := range prints(t, tt.value) {
				if !strings.Contains(printed, tt.says) && tt.says != "" && printed[0] != '{' {
					t.Errorf("printed = %q, want it to say %q", printed, tt.says)
				}
				checkNoSecret(t, printed, m)
			}
		})
	}
}

// prints shows a value in every way there is.
func prints(t *testing.T, v any) []string {
	t.Helper()
	var out []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		out = append(out, fmt.Sprintf(verb, v))
	}
	var text, js bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("test", "value", v)
	slog.New(slog.NewJSONHandler(&js, nil)).Info("test", "value", v)
	return append(out, text.String(), js.String(), string(must(json.Marshal(v))))
}

func checkNoSecret(t *testing.T, printed string, m testMesh) {
	t.Helper()
	text, invite, root, admin := m.invite.Text(), m.invite.key.bytes(), m.root.key.bytes(), m.admin.key.bytes()
	if strings.Contains(strings.ToLower(printed), text[len(text)-20:]) {
		t.Errorf("printed = %q, which has the text in it", printed)
	}
	for _, seed := range [][32]byte{invite, root, admin} {
		for _, form := range []string{
			string(seed[:8]),
			hex.EncodeToString(seed[:8]),
			strings.Trim(fmt.Sprint(seed[:8]), "[]"),
			strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", seed[:8]), "[]byte{"), "}"),
			base32Text.EncodeToString(seed[:])[:12],
		} {
			if strings.Contains(strings.ToLower(printed), form) {
				t.Errorf("printed has a key in it as %q:\n%.300q", form, printed)
			}
		}
	}
}

func FuzzParseInvite(f *testing.F) {
	m := newTestMesh(f, 1)
	f.Add(m.invite.Text())
	f.Add(strings.ToUpper(m.invite.Text()) + "\n")
	f.Add(must(m.admin.IssueInvite(constant(6), now, Terms{Name: "eve"}, nil)).Text())
	f.Add("p2pnode1")
	f.Add("p2pnode2aaaa")
	f.Fuzz(func(t *testing.T, text string) {
		inv, err := ParseInvite(text)
		if err != nil {
			if inv != nil {
				t.Errorf("ParseInvite(%q) = %v along with %v, want nil", text, inv, err)
			}
			return
		}
		again, err := ParseInvite(inv.Text())
		if err != nil || again.Text() != inv.Text() {
			t.Errorf("ParseInvite(%q).Text() = %q, which parses to %v, %v", text, inv.Text(), again, err)
		}
	})
}

// FuzzDecodeInvite goes past the checksum, which chance does not.
func FuzzDecodeInvite(f *testing.F) {
	m := newTestMesh(f, 1)
	f.Add(must(unwrap(m.invite.Text())))
	f.Add(must(unwrap(must(m.admin.IssueInvite(constant(6), now, Terms{Name: "eve"}, nil)).Text())))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > MaxInviteText/2 {
			return // longer than a text can carry
		}
		inv, err := ParseInvite(wrap(payload))
		if err != nil {
			return
		}
		if got := must(unwrap(inv.Text())); !bytes.Equal(got, payload) {
			t.Errorf("payload = %x, want %x", got, payload)
		}
		var all []multiaddr.Multiaddr
		for _, p := range inv.Start() {
			all = append(all, p.Addrs...)
		}
		_ = fmt.Sprint(inv, all)
		if inv.Verify(now) == nil && inv.Mesh() == m.id && inv.Grant().Roles != DefaultRoles {
			t.Errorf("Verify of %x = nil, want an error", payload)
		}
	})
}

func BenchmarkParseInvite(b *testing.B) {
	text := newTestMesh(b, 1).invite.Text()
	b.ReportMetric(float64(len(text)), "chars")
	for b.Loop() {
		if _, err := ParseInvite(text); err != nil {
			b.Fatal(err)
		}
	}
}
