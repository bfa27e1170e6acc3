package forward

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fewFilesTarget is where the process of TestFewFiles has its connections go, if this
// is that.
const fewFilesTarget = "P2PNODE_TEST_FEW_FILES_TARGET"

// A forward without descriptors for more connections lets them wait, and turns none away.
func TestFewFiles(t *testing.T) {
	if target := os.Getenv(fewFilesTarget); target != "" {
		runFewFiles(t, target)
		return
	}
	server := listenTCP(t)
	go echoAll(server)
	cmd := exec.Command(os.Args[0], "-test.run=^TestFewFiles$")
	cmd.Env = append(os.Environ(), fewFilesTarget+"="+server.Addr().String())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait() // what it says of its test is not looked at
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimSpace(line)

	const clients, atOnce = 600, 100
	var done sync.WaitGroup
	var answered atomic.Int32
	full := make(chan struct{})
	release := sync.OnceFunc(func() { close(full) }) // once so many are open, or one has failed
	for range clients {
		done.Go(func() {
			c, err := net.DialTimeout("tcp", addr, testTimeout)
			if err == nil {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(testTimeout))
				err = echoByte(c)
			}
			if err != nil {
				t.Error(err)
			}
			if err != nil || answered.Add(1) == atOnce {
				release()
			}
			<-full
		})
	}
	done.Wait()
}

// echoByte writes a byte and reads it back.
func echoByte(c net.Conn) error {
	var b [1]byte
	if _, err := c.Write(b[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b[:])
	return err
}

// testTimeout is longer than anything here takes.
const testTimeout = 30 * time.Second

// runFewFiles is a process that may have few descriptors, until its input ends.
func runFewFiles(t *testing.T, target string) {
	few := unix.Rlimit{Cur: 512, Max: 512}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	f := newForward(t, dialFunc(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", target)
	}), Config{})
	fmt.Println(f.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}
