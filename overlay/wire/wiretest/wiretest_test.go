package wiretest

import (
	"strings"
	"testing"
)

const fence = "```"

func TestCut(t *testing.T) {
	const doc = "# Frames\n\n" + fence + "vectors frame\nbody: 00\n" + fence + "\n\n" + fence + "vectors open\nbody: 01\n"
	for _, tt := range []struct {
		name, block, want, err string
	}{
		{"a block", "frame", "body: 00\n", ""},
		{"no such block", "fram", "", `no block of vectors named "fram"`},
		{"a block without end", "open", "", "has no end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, got, after, err := cut(doc, tt.block)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("cut = %v, want it to say %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want || before+got+after != doc {
				t.Errorf("cut = %q, %q, %q, %v, want %q in the middle of the document", before, got, after, err, tt.want)
			}
		})
	}
}

func TestFormat(t *testing.T) {
	got := format([]Vector{{"body", "00"}, {"frame", "000100"}})
	if want := "body: 00\nframe: 000100\n"; got != want {
		t.Errorf("format = %q, want %q", got, want)
	}
}
