package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runDemo runs the demo with a directory for temporary files of its own, and
// checks that it leaves none, and no process.
func runDemo(t *testing.T, interrupt bool) (stdout string, err error) {
	tmp, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	cmd := exec.CommandContext(testContext(t), command, "demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var out bytes.Buffer
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1<<12)
	n, _ := stderr.Read(first) // that the nodes are ready
	if interrupt {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s", first[:n])
	err = cmd.Wait()
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
		t.Errorf("the demo left %v", left)
	}
	if left := processesWith(t, tmp); len(left) > 0 {
		t.Errorf("the demo left the processes %v", left)
	}
	return out.String(), err
}

// processesWith returns the command lines that name a directory.
func processesWith(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		skip(t, "this system has no /proc")
	}
	var found []string
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err == nil && bytes.Contains(line, []byte(dir)) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func TestDemoLeavesNothing(t *testing.T) {
	out, err := runDemo(t, false)
	if err != nil {
		t.Errorf("demo = %v", err)
	}
	if want := "20 of 20 ordered pairs verified"; !strings.Contains(out, want) {
		t.Errorf("demo prints %q, want %q in it", out, want)
	}
}

func TestInterruptedDemoLeavesNothing(t *testing.T) {
	runDemo(t, true) // it may have been done already
}
