package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
)

// A certificate takes both of its files, and they have to be what they are said to be.
func TestTLSFlags(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.pem")
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, cert, key string
		want            string // substring; empty means success
	}{
		{"neither", "", "", ""},
		{"no key", bad, "", "--tls-cert and --tls-key go together"},
		{"no certificate", "", bad, "--tls-cert and --tls-key go together"},
		{"no file", none, none, "--tls-cert and --tls-key: open " + none},
		{"something else", bad, bad, "--tls-cert and --tls-key: tls: failed to find any PEM data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c overlay.Config
			e := &env{getenv: func(string) string { return "" }}
			err := (&networkFlags{tlsCert: tt.cert, tlsKey: tt.key}).apply(e, &c)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("apply = %v, want %q", err, tt.want)
			}
			if c.Certificate != nil {
				t.Error("there is a certificate")
			}
		})
	}
}
