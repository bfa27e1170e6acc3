package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"
)

// A message is one of each kind of field there is in p2pnode's messages.
type message struct {
	Name  string   `cbor:"1,keyasint,omitempty"`
	Count uint8    `cbor:"2,keyasint"`
	Time  int64    `cbor:"3,keyasint"`
	Key   [4]byte  `cbor:"4,keyasint"`
	Data  []byte   `cbor:"5,keyasint,omitempty"`
	Pairs []pair   `cbor:"6,keyasint,omitempty"`
	Ratio float64  `cbor:"7,keyasint,omitempty"`
	Deep  []*child `cbor:"8,keyasint,omitempty"`
}

type pair struct {
	_    struct{} `cbor:",toarray"`
	A, B uint16
}

type child struct {
	_    struct{} `cbor:",toarray"`
	More []*child
}

func TestModes(t *testing.T) {
	if _, err := encOptions().EncMode(); err != nil {
		t.Errorf("EncMode = %v, want nil", err)
	}
	if _, err := decOptions().DecMode(); err != nil {
		t.Errorf("DecMode = %v, want nil", err)
	}
}

func TestMarshal(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   any
		want string
	}{
		{"zero", message{}, "a3020003000444" + "00000000"},
		{"all", message{"web", 255, -1, [4]byte{1, 2, 3, 4}, []byte{9}, []pair{{A: 1, B: 1000}}, 1.5, nil},
			"a7" + "0163776562" + "0218ff" + "0320" + "044401020304" + "054109" + "0681" + "82011903e8" + "07f93e00"},
		{"no list", []pair(nil), "80"},
		{"an empty list", []pair{}, "80"},
		{"no bytes", []byte(nil), "40"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Marshal(tt.in)
			if err != nil || hex.EncodeToString(got) != tt.want {
				t.Errorf("Marshal = %x, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestMarshalRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   any
		says string
	}{
		{"too large", make([]byte, MaxSize), "65538 bytes; a message has at most 65535"},
		{"what needs a tag", new(big.Int).Lsh(big.NewInt(1), 100), "encode *big.Int"},
		{"what has no form", make(chan int), "encode chan int"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Marshal(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.says) || got != nil {
				t.Errorf("Marshal = %x, %v, want no bytes and %q", got, err, tt.says)
			}
		})
	}
}

func TestUnmarshal(t *testing.T) {
	want := message{Name: "web", Count: 7, Time: math.MaxInt64, Data: []byte{1}, Pairs: []pair{{A: 1}}}
	data, err := Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := message{Ratio: 1} // nothing of it may be left
	if err := Unmarshal(data, &got); err != nil {
		t.Fatalf("Unmarshal = %v, want nil", err)
	}
	clear(data) // nor may the outcome share its bytes
	if again, _ := Marshal(got); !bytes.Equal(again, mustMarshal(t, want)) {
		t.Errorf("Unmarshal = %+v, want %+v", got, want)
	}
}

func mustMarshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestUnmarshalRefuses(t *testing.T) {
	deep := &child{}
	for range maxNesting {
		deep = &child{More: []*child{deep}}
	}
	for _, tt := range []struct {
		name, hex string
	}{
		{"nothing", ""},
		{"another type", "63776562"},
		{"a byte behind it", "a302000300044400000000" + "00"},
		{"a byte missing", "a3020003000444000000"},
		{"keys out of order", "a303000200044400000000"},
		{"a key twice", "a402000200030004440000" + "0000"},
		{"a key missing", "a20200044400000000"},
		{"an unknown key", "a402000300044400000000" + "0900"},
		{"a key that is text", "a4020003000444000000006131" + "00"},
		{"an empty field spelled out", "a40160020003000444" + "00000000"},
		{"an integer in a longer form", "a30218000300044400000000"},
		{"a length in a longer form", "a302000300045804" + "00000000"},
		{"a map's length in a longer form", "b80302000300044400000000"},
		{"a float in a longer form", "a402000300044400000000" + "07fb3ff8000000000000"},
		{"not a number", "a402000300044400000000" + "07f97e00"},
		{"infinity", "a402000300044400000000" + "07f97c00"},
		{"an integer too large", "a302190100" + "0300044400000000"},
		{"an integer below zero", "a302200300044400000000"},
		{"bytes too short", "a3020003000443000000"},
		{"bytes too long", "a3020003000445" + "0000000000"},
		{"a list for bytes", "a30200030004840000" + "0000"},
		{"text for bytes", "a3020003000464" + "61616161"},
		{"null", "f6"},
		{"null in a field", "a302f60300044400000000"},
		{"undefined in a field", "a302f70300044400000000"},
		{"a tag", "c1a302000300044400000000"},
		{"a tag in a field", "a302c1000300044400000000"},
		{"a tag for a bignum", "a30200" + "03c24101" + "044400000000"},
		{"a map of indefinite length", "bf02000300044400000000ff"},
		{"bytes of indefinite length", "a302000300045f4400000000ff"},
		{"text that is not UTF-8", "a40161ff" + "02000300044400000000"},
		{"a pair of one", "a402000300044400000000" + "06818101"},
		{"a pair of three", "a402000300044400000000" + "068183010203"},
		{"more than can be there", "a402000300044400000000" + "069affffffff"},
		{"a list too long", "a402000300044400000000" + "06" + "990401" + strings.Repeat("820101", maxElements+1)},
		{"nested too deeply", hex.EncodeToString(mustMarshal(t, message{Deep: []*child{deep}}))},
		{"too large", hex.EncodeToString(make([]byte, MaxSize+1))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			got := message{Name: "before"}
			if err := Unmarshal(data, &got); !errors.Is(err, ErrMalformed) {
				t.Errorf("Unmarshal = %v, want %v", err, ErrMalformed)
			}
			if got.Name != "before" || got.Count != 0 || got.Pairs != nil {
				t.Errorf("Unmarshal with an error left %+v, want it untouched", got)
			}
		})
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(mustMarshal(f, message{}))
	f.Add(mustMarshal(f, message{Name: "web", Count: 7, Time: -1, Data: []byte{1}, Pairs: []pair{{A: 1}}, Ratio: 1.5}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m message
		if err := Unmarshal(data, &m); err != nil {
			return
		}
		if got, err := Marshal(m); err != nil || !bytes.Equal(got, data) {
			t.Errorf("Marshal = %x, %v, want %x, which it came from", got, err, data)
		}
	})
}
