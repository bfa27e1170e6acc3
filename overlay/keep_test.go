package overlay_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
)

// wantKept sees that a node keeps some values and no others.
func wantKept(t *testing.T, m *overlay.Mesh, want map[string]string) {
	t.Helper()
	values, err := m.Kept()
	if err != nil {
		t.Fatalf("Kept = %v", err)
	}
	got := map[string]string{}
	for k, v := range values {
		got[k] = string(v)
	}
	if !maps.Equal(got, want) {
		t.Errorf("Kept = %q, want %q", got, want)
	}
}

// What a program has kept is there when its node is started again, and not when it
// has left the mesh and founds another.
func TestKeepOutlivesTheNodeAndNotTheMembership(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := open(t, onLoopback(overlay.Config{Dir: dir, Name: "alice"}))
	wantKept(t, m, map[string]string{})
	for _, values := range []map[string][]byte{
		{"service/web": []byte("3000"), "forward/8080": []byte("bob/db"), "service/old": []byte("1")},
		{"service/web": []byte("3001"), "service/old": nil, "never": nil},
	} {
		if err := m.Keep(values); err != nil {
			t.Fatalf("Keep(%q) = %v", values, err)
		}
	}
	want := map[string]string{"service/web": "3001", "forward/8080": "bob/db"}
	wantKept(t, m, want)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Keep(map[string][]byte{"late": []byte("1")}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Keep after Close = %v, want %v", err, net.ErrClosed)
	}
	if _, err := m.Kept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Kept after Close = %v, want %v", err, net.ErrClosed)
	}
	m = open(t, onLoopback(overlay.Config{Dir: dir}))
	wantKept(t, m, want)
	if err := m.Leave(testContext(t)); err != nil {
		t.Fatal(err)
	}
	m.Close()
	wantKept(t, open(t, onLoopback(overlay.Config{Dir: dir, Name: "alice"})), map[string]string{})
}

// A node without a directory keeps all the same, while it runs.
func TestKeepOfAnEphemeralNode(t *testing.T) {
	t.Parallel()
	m := open(t, onLoopback(overlay.Config{}))
	if err := m.Keep(map[string][]byte{"a": []byte("1")}); err != nil {
		t.Fatal(err)
	}
	wantKept(t, m, map[string]string{"a": "1"})
}

func TestKeepIsBounded(t *testing.T) {
	t.Parallel()
	m := open(t, onLoopback(overlay.Config{}))
	full := map[string][]byte{}
	for i := range overlay.MaxKept {
		full[fmt.Sprint(i)] = []byte("1")
	}
	if err := m.Keep(full); err != nil {
		t.Fatalf("Keep of %d keys = %v", len(full), err)
	}
	long := string(bytes.Repeat([]byte("k"), overlay.MaxKeptKey+1))
	for _, tt := range []struct {
		name   string
		values map[string][]byte
	}{
		{"one key too many", map[string][]byte{"more": []byte("1")}},
		{"a key too long", map[string][]byte{long: nil}},
		{"a value too long", map[string][]byte{"0": make([]byte, overlay.MaxKeptValue+1)}},
	} {
		if err := m.Keep(tt.values); !errors.Is(err, overlay.ErrKeptTooMuch) {
			t.Errorf("%s: Keep = %v, want %v", tt.name, err, overlay.ErrKeptTooMuch)
		}
	}
	if err := m.Keep(map[string][]byte{"": []byte("1")}); err == nil {
		t.Error("Keep under an empty key = nil, want an error")
	}
	if err := m.Keep(map[string][]byte{"more": []byte("1"), "0": nil}); err != nil {
		t.Errorf("Keep of a key in the place of another = %v", err)
	}
}
