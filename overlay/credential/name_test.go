package credential

import (
	"regexp"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for _, tt := range []struct {
		name string
		want error
	}{
		{"a", nil},
		{"alice", nil},
		{"7", nil},
		{"web-01", nil},
		{"a--b", nil},
		{strings.Repeat("n", MaxName), nil},
		{"", ErrInvalid},
		{strings.Repeat("n", MaxName+1), ErrInvalid},
		{"Alice", ErrInvalid},
		{"-alice", ErrInvalid},
		{"alice-", ErrInvalid},
		{"-", ErrInvalid},
		{"al.ice", ErrInvalid},
		{"al/ice", ErrInvalid},
		{"al_ice", ErrInvalid},
		{"al ice", ErrInvalid},
		{"alice\n", ErrInvalid},
		{"alice\x00", ErrInvalid},
		{"älice", ErrInvalid},
		{"а", ErrInvalid}, // Cyrillic
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkErr(t, "CheckName", CheckName(tt.name), tt.want, "name")
		})
	}
}

func FuzzCheckName(f *testing.F) {
	good := regexp.MustCompile(`\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\z`)
	f.Add("alice")
	f.Add("web-01")
	f.Add("-")
	f.Add("a\n")
	f.Fuzz(func(t *testing.T, name string) {
		if err := CheckName(name); (err == nil) != good.MatchString(name) {
			t.Errorf("CheckName(%q) = %v, want it to go by %v", name, err, good)
		}
	})
}
