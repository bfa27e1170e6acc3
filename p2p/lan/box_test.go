package lan

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

var epoch = time.Unix(1_800_000_000, 0)

func testBoxes(t testing.TB, secret string) boxes {
	t.Helper()
	b, err := newBoxes([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBoxes(t *testing.T) {
	b, id := testBoxes(t, "group"), newPeer(t)
	long := "/dns/" + strings.Repeat("x", 1000) + "/tcp/1"
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("/ip6/2001:db8::%d/udp/4001/quic-v1", i))
	}
	for _, tt := range []struct {
		name       string
		addrs      []multiaddr.Multiaddr
		wantAddrs  []multiaddr.Multiaddr
		wantLength int
	}{
		{"goodbye", nil, nil, 1},
		{"one", parseAddrs("/ip4/10.0.0.1/tcp/1"), parseAddrs("/ip4/10.0.0.1/tcp/1"), 1},
		{"several", parseAddrs(many[:3]...), parseAddrs(many[:3]...), 1},
		{"too many", parseAddrs(many...), parseAddrs(many[:maxAddrs]...), 3},
		{"too long", parseAddrs(long, many[0]), parseAddrs(many[0]), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			box := b.seal("instance", note{peer: id, addrs: tt.addrs, number: 7}, epoch)
			if want := boxOverhead + tt.wantLength*boxPadding; len(box) != want {
				t.Errorf("box has %d bytes, want %d", len(box), want)
			}
			got, err := b.open("instance", box, epoch)
			if err != nil || got.peer != id || got.number != 7 || !sameAddrs(got.addrs, tt.wantAddrs) {
				t.Errorf("open(seal(...)) = %v, %v, want %v", got, err, tt.wantAddrs)
			}
			if bytes.Contains(box, []byte(id)) {
				t.Error("the box shows the peer")
			}
			if again := b.seal("instance", note{peer: id, addrs: tt.addrs, number: 7}, epoch); bytes.Equal(again, box) {
				t.Error("two boxes of one content are the same")
			}
		})
	}
}

func TestBoxesThatAreRefused(t *testing.T) {
	b, id := testBoxes(t, "group"), newPeer(t)
	n := note{peer: id, addrs: parseAddrs("/ip4/10.0.0.1/tcp/1"), number: 1}
	box := b.seal("instance", n, epoch)
	sealed := func(content []byte) []byte {
		return b.aead.Seal(nil, nil, content, []byte(boxVersion+"instance"))
	}
	for _, tt := range []struct {
		name     string
		by       boxes
		instance string
		box      []byte
		now      time.Time
		want     error
	}{
		{"right", b, "instance", box, epoch, nil},
		{"clock behind", b, "instance", box, epoch.Add(-maxSkew), nil},
		{"late", b, "instance", box, epoch.Add(boxLife), nil},
		{"another group", testBoxes(t, "another"), "instance", box, epoch, errForeign},
		{"another instance", b, "another", box, epoch, errForeign},
		{"too late", b, "instance", box, epoch.Add(boxLife + boxRounded + maxSkew + time.Second), errExpired},
		{"too early", b, "instance", box, epoch.Add(-boxRounded - maxSkew - time.Second), errExpired},
		{"empty", b, "instance", nil, epoch, errFormat},
		{"cut", b, "instance", box[:len(box)-1], epoch, errForeign},
		{"longer", b, "instance", append(slices.Clip(box), 0), epoch, errForeign},
		{"too long", b, "instance", make([]byte, maxBox+1), epoch, errFormat},
		{"no content", b, "instance", sealed(nil), epoch, errFormat},
		{"zeros", b, "instance", sealed(make([]byte, boxPadding)), epoch, errFormat},
		{"ones", b, "instance", sealed(bytes.Repeat([]byte{255}, boxPadding)), epoch, errFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.by.open(tt.instance, tt.box, tt.now); !errors.Is(err, tt.want) {
				t.Errorf("open() = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestEachByteOfABoxCounts(t *testing.T) {
	b := testBoxes(t, "group")
	box := b.seal("instance", note{peer: newPeer(t), addrs: parseAddrs("/ip4/10.0.0.1/tcp/1")}, epoch)
	for i := range box {
		for _, flip := range []byte{1, 128, 255} {
			bad := bytes.Clone(box)
			bad[i] ^= flip
			if got, err := b.open("instance", bad, epoch); err != errForeign {
				t.Errorf("open() with byte %d changed = %v, %v, want %v", i, got, err, errForeign)
			}
		}
	}
}

func FuzzParseNote(f *testing.F) {
	f.Add([]byte{})
	f.Add(append([]byte{1, 2, 3, 4, 0, 0, 0, 1, 2, 0, 0, 1, 0, 8}, "\x04\x0a\x00\x00\x01\x06\x00\x01"...))
	f.Fuzz(func(t *testing.T, content []byte) {
		n, err := parseNote(content)
		if err != nil {
			return
		}
		if len(n.addrs) > maxAddrs || len(n.peer) > maxPeerID || n.peer == "" {
			t.Errorf("parseNote(%x) = %v, which is too much", content, n)
		}
		for _, l := range []link{{}, {name: "eth0"}} {
			for _, a := range toBelieve(n.addrs, l, netip.Addr{}) {
				if a == nil {
					t.Errorf("toBelieve(%v) has nil", n.addrs)
				}
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	question, _ := packQuestion([]string{"0123456789abcdef"}, 60, true)
	said, _ := packAnswer(answer{"0123456789abcdef", 60, make([]byte, maxBox)})
	f.Add(question)
	f.Add(said)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, ok := parse(data)
		if !ok {
			return
		}
		if len(m.known) > maxKnown+maxAnswers || len(m.answers) > maxAnswers {
			t.Errorf("parse(%x) = %v, which is too much", data, m)
		}
		for _, a := range m.answers {
			if len(a.box) > maxBox || len(a.instance) != instanceLen {
				t.Errorf("parse(%x) = %v, which is too much", data, m)
			}
		}
	})
}

func TestMessages(t *testing.T) {
	var known []string
	for range maxKnown {
		known = append(known, newInstance())
	}
	packed, err := packQuestion(known, 60, true)
	if err != nil {
		t.Fatal(err)
	}
	m, ok := parse(packed)
	if !ok || !m.question || !m.more || !slices.Equal(m.known, known) || !aboutUs(packed) {
		t.Errorf("parse(packQuestion(...)) = %v, %v", m, ok)
	}
	if len(packed) > 1232 {
		t.Errorf("a question has %d bytes, want at most 1232", len(packed))
	}
	box := testBoxes(t, "group").seal(known[0], note{peer: newPeer(t)}, epoch)
	for _, box := range [][]byte{box, bytes.Repeat([]byte{7}, maxBox)} {
		packed, err = packAnswer(answer{known[0], 99, box})
		if err != nil {
			t.Fatal(err)
		}
		m, ok = parse(packed)
		if !ok || m.question || len(m.answers) != 1 || m.answers[0].ttl != 99 || m.answers[0].instance != known[0] || !bytes.Equal(m.answers[0].box, box) {
			t.Errorf("parse(packAnswer(...)) = %v, %v", m, ok)
		}
		if len(packed) > 1232 {
			t.Errorf("an answer has %d bytes, want at most 1232", len(packed))
		}
		total := 0
		for _, s := range toStrings(box) {
			total += len(s) + 1
			if len(s) > maxString {
				t.Errorf("a string has %d bytes, want at most %d", len(s), maxString)
			}
		}
		if total > 1200 {
			t.Errorf("the TXT record has %d bytes, want at most 1200", total)
		}
	}
}

func TestConfigNamesAllFaults(t *testing.T) {
	_, err := New(Config{Self: peer.ID(strings.Repeat("x", 65))})
	for _, field := range []string{"Group", "Self", "Addrs", "Found"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("New(Config{}) = %v, want it to name %s", err, field)
		}
	}
}
