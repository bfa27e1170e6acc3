package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commands returns all that can be typed.
func commands() []*cobra.Command {
	root := rootCommand(&env{})
	return root.Commands()
}

// Whatever has arguments or flags of its own shows how it is used.
func TestHelpHasExamples(t *testing.T) {
	for _, c := range commands() {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: Short = %q, want a line without a full stop", c.Name(), c.Short)
		}
		takes := strings.Contains(c.Use, " ") || c.LocalNonPersistentFlags().HasFlags()
		if takes && c.Example == "" {
			t.Errorf("%s takes arguments or flags and has no Example", c.Name())
		}
		for line := range strings.Lines(c.Example) {
			if !strings.Contains(line, "p2pnode "+c.Name()) {
				t.Errorf("%s: the Example %q is of something else", c.Name(), line)
			}
		}
	}
}

// Help goes to standard output, and names what can be typed next.
func TestHelpOfEachCommand(t *testing.T) {
	for _, c := range commands() {
		var stdout, stderr bytes.Buffer
		e := &env{stdout: &stdout, stderr: &stderr}
		if got := e.run(t.Context(), []string{c.Name(), "--help"}); got != exitDone {
			t.Errorf("%s --help exits with %d, want %d", c.Name(), got, exitDone)
		}
		if !strings.Contains(stdout.String(), "p2pnode "+c.Use) || !strings.Contains(stdout.String(), "--dir") || stderr.Len() > 0 {
			t.Errorf("%s --help = %q, and on standard error %q", c.Name(), &stdout, &stderr)
		}
	}
}
