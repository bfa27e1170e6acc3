package p2p

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vectors are the lines of a block of docs/protocol.md, which is where other
// implementations read them.
type vectors []string

func (v *vectors) text(name, value string) { *v = append(*v, name+": "+value) }

func (v *vectors) hex(name string, value []byte) { v.text(name, hex.EncodeToString(value)) }

func (v *vectors) message(t testing.TB, name string, m interface{ marshal() ([]byte, error) }) {
	t.Helper()
	data, err := m.marshal()
	if err != nil {
		t.Fatal(err)
	}
	v.hex(name, data)
}

// check compares them with the document's.
func (v *vectors) check(t testing.TB, block string) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	const fence = "```"
	_, rest, found := strings.Cut(string(doc), "\n"+fence+"vectors "+block+"\n")
	if !found {
		t.Fatalf("docs/protocol.md has no block of vectors named %q", block)
	}
	got, _, _ := strings.Cut(rest, fence)
	if want := strings.Join(*v, "\n") + "\n"; got != want {
		t.Errorf("vectors %s in docs/protocol.md =\n%s\nwant\n%s", block, got, want)
	}
}

func TestVectorsSight(t *testing.T) {
	var token [sightToken]byte
	for i := range token {
		token[i] = byte(i)
	}
	var v vectors
	v.hex("token", token[:])
	v.message(t, "request", sightRequest{token: token, tcp: 4001})
	v.message(t, "request for an unasked datagram to 203.0.113.7:4001", sightRequest{token, 4001, someAddr4})
	v.message(t, "request for an unasked datagram to [2001:db8::7]:4001", sightRequest{token, 4001, someAddr6})
	v.message(t, "offer of ports 4001 and 50000", sightOffer{4001, 50000})
	v.message(t, "report of a datagram to the QUIC port", sightReport{kind: reportMain, from: someAddr4})
	v.message(t, "report of a datagram to the other port", sightReport{kind: reportOther, from: someAddr6})
	v.message(t, "report that TCP gets through", sightReport{kind: reportTCP, ok: true})
	v.message(t, "report that TCP does not", sightReport{kind: reportTCP})
	v.hex("datagram to the QUIC port", datagram(datagramMain, token))
	v.hex("datagram unasked", datagram(datagramUnasked, token))
	v.check(t, "sight")
}

func TestVectorsUpgrade(t *testing.T) {
	var v vectors
	v.message(t, "empty offer", offer{})
	var told []string
	for _, a := range anOffer.addrs {
		told = append(told, a.String())
	}
	v.text("addresses (text)", strings.Join(told, " "))
	v.message(t, "offer", anOffer)
	v.hex("frame of the role of a leader that begins", framed(t, []byte{0}))
	v.hex("frame of the role of one that does not", framed(t, []byte{1}))
	v.check(t, "upgrade")
}
