package main

import (
	"strings"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
)

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		in   string
		want time.Time
		err  string // substring; empty means none
	}{
		{"0", now, ""},
		{"36h", now.Add(-36 * time.Hour), ""},
		{"1m30s", now.Add(-90 * time.Second), ""},
		{"2026-01-01T00:00:00Z", now.Add(-27*time.Hour - 4*time.Minute - 5*time.Second), ""},
		{"2026-01-01T02:00:00+02:00", now.Add(-27*time.Hour - 4*time.Minute - 5*time.Second), ""},
		{"", time.Time{}, "neither how long ago"},
		{"yesterday", time.Time{}, "neither how long ago"},
		{"36", time.Time{}, "neither how long ago"},
		{"2026-01-01", time.Time{}, "neither how long ago"},
		{"-1h", time.Time{}, "in the future"},
		{"2026-01-02T03:04:06Z", time.Time{}, "in the future"},
		{"1960-01-01T00:00:00Z", time.Time{}, "too long ago"},
		{"999999h", time.Time{}, "too long ago"},
	} {
		got, err := parseSince(tt.in, now)
		if !got.Equal(tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("parseSince(%q) = %v, %v, want %v, %q", tt.in, got, err, tt.want, tt.err)
		}
	}
}

func TestTexts(t *testing.T) {
	bob := control.Rule{Rule: "12D3KooWb", Name: "bob"}
	for _, tt := range []struct{ name, got, want string }{
		{"one is out", revokedText("bob", control.Revoked{Out: []control.Out{{ID: "12D3KooWb", Name: "bob"}}}), "revoked bob (12D3KooWb)"},
		{"one that was not known", revokedText("bob", control.Revoked{}), "revoked bob"},
		{"an invite and one it admitted", revokedText("abcd", control.Revoked{Invite: "abcd", Out: []control.Out{{ID: "12D3KooWb", Name: "bob"}}}),
			"revoked invite abcd\nrevoked bob (12D3KooWb)"},
		{"left", leftText(control.Left{Name: "bob", ID: "12D3KooWb", Mesh: "abcd"}), "left mesh abcd: the key and the membership of bob (12D3KooWb) are gone"},
		{"for one", accessText(control.Access{Service: "web", Allow: []control.Rule{bob}}), "web is for bob (12D3KooWb)"},
		{"for nobody", accessText(control.Access{Service: "web"}), "web is for nobody"},
		{"not for one", accessText(control.Access{Service: "web", Allow: []control.Rule{{Rule: "everyone"}}, Deny: []control.Rule{{Rule: "eve", Note: "who is that"}}}),
			"web is for everyone, but not for eve\n  eve: who is that"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, tt.got, tt.want)
		}
	}
}
