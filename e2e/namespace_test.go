package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// inNamespace runs a shell script with p2pnode in its path, where the network,
// the processes and /tmp are its own.
func inNamespace(t *testing.T, script string) (string, error) {
	t.Helper()
	needs(t, "bash", "unshare", "mount", "ip")
	if os.Getuid() != 0 {
		skip(t, "namespaces need root")
	}
	// What is below /tmp is hidden from the script, so the command goes elsewhere.
	bin, err := os.MkdirTemp("/run", "p2pnode-e2e-")
	if err != nil {
		skip(t, "root can't write /run: "+err.Error())
	}
	defer os.RemoveAll(bin)
	data, err := os.ReadFile(command)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "p2pnode"), data, 0o700); err != nil {
		t.Fatal(err)
	}
	prepare := "set -e\nip link set lo up\nmount -t tmpfs none /tmp\ncd /tmp\nset -m\nexport PATH=" + bin + ":$PATH\n"
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", prepare+script)
	cmd.Env = append(os.Environ(), "HOME=/tmp", "TMPDIR=/tmp", "XDG_RUNTIME_DIR=/tmp")
	cmd.Dir = bin
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// A disk that is full stops a node from starting, and says so, and loses nothing.
func TestFullDisk(t *testing.T) {
	out, err := inNamespace(t, `
mkdir small; mount -t tmpfs -o size=256k none small
fill() { head -c 1m /dev/zero > small/fill 2>/dev/null || true; }
start() { p2pnode up --dir small/a --name alice & until p2pnode id --dir small/a 2>/dev/null; do sleep 0.05; done; }

fill
if p2pnode up --dir small/a; then echo founded on a full disk; exit 1; fi
rm small/fill
start > id; p2pnode down --dir small/a

fill
if timeout 5 p2pnode up --dir small/a; then echo came back on a full disk; exit 1; fi
rm small/fill
start > id2; p2pnode down --dir small/a
grep 12D3 id; cmp <(grep -v ready id) <(grep -v ready id2)
`)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"no space left on device", "make room on the disk"} {
		if strings.Count(out, want) != 2 {
			t.Errorf("the script prints %q, want %q twice in it", out, want)
		}
	}
}
