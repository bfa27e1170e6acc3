package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// An invite that was given as an argument is not shown with the process.
func TestInviteIsNotInTheProcessTitle(t *testing.T) {
	invite := newNode(t, "alice").up().invite()
	bob := newNode(t, "bob")
	if err := bob.start("", "join", invite); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", bob.cmd.Process.Pid, file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), invite[:32]) {
			t.Errorf("%s of the process has the invite in it", file)
		}
		if file == "cmdline" && !strings.Contains(string(data), "join\x00xxxx") {
			t.Errorf("cmdline = %q, want it with something else for the invite", data)
		}
	}
	bob.end(bob.cmd)
	if strings.Contains(bob.stderr.String(), invite[:32]) {
		t.Error("standard error has the invite in it")
	}
}
