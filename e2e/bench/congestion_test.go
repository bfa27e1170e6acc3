package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUseCubic(t *testing.T) {
	for _, tt := range []struct {
		name, before string
		want         congestion
	}{
		{"from another", "bbr\n", congestion{Used: "cubic", Before: "bbr"}},
		{"as it is", "cubic\n", congestion{Used: "cubic", Before: "cubic"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "setting")
			if err := os.WriteFile(file, []byte(tt.before), 0o600); err != nil {
				t.Fatal(err)
			}
			got, restore := useCubic(file)
			if got != tt.want {
				t.Errorf("useCubic = %+v, want %+v", got, tt.want)
			}
			wantStart(t, file, "cubic\n")
			checkErr(t, restore(), "")
			wantStart(t, file, tt.before)
		})
	}
}

func TestUseCubicWhereThereIsNoSetting(t *testing.T) {
	file := filepath.Join(t.TempDir(), "setting")
	got, restore := useCubic(file)
	if got.Used != "unknown" || got.Note == "" {
		t.Errorf("useCubic = %+v, want an unknown one and why", got)
	}
	checkErr(t, restore(), "")
	if _, err := os.Stat(file); err == nil {
		t.Errorf("%s was made", file)
	}
}

func TestCongestionString(t *testing.T) {
	for _, tt := range []struct {
		in   congestion
		want string
	}{
		{congestion{Used: "cubic", Before: "cubic"}, "cubic"},
		{congestion{Used: "cubic", Before: "bbr"}, "cubic (for the run; bbr outside of it)"},
		{congestion{Used: "bbr", Before: "bbr", Note: "not cubic: only root may set it"}, "bbr (not cubic: only root may set it)"},
	} {
		if got := tt.in.String(); got != tt.want {
			t.Errorf("%#v.String() = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// wantStart checks how a file begins: a plain file, other than the kernel's
// setting, keeps the end of a longer text.
func wantStart(t testing.TB, file, want string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) < len(want) || string(text[:len(want)]) != want {
		t.Errorf("%s begins %q, want %q", filepath.Base(file), text, want)
	}
}
