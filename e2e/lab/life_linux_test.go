package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Set in the process that TestLabOfAKilledProcessIsRemoved kills.
const victim = "P2PLAB_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(victim) != "" {
		if err := beVictim(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// beVictim makes a lab with a program in it, says so and waits.
func beVictim() error {
	l, err := Open(context.Background())
	if err != nil {
		return err
	}
	r := l.Router("r", NAT{Kind: FullCone})
	h := r.Host("h")
	h.SetLink(Link{Delay: time.Millisecond})
	cmd := h.Command(context.Background(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid, l.internet.ns.name, r.Namespace(), h.Namespace())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, l.Err())
}

func gone(name string) bool {
	_, err := os.Lstat(filepath.Join(namedDir, name))
	return errors.Is(err, os.ErrNotExist)
}

func TestLabOfAKilledProcessIsRemoved(t *testing.T) {
	New(t) // or skip
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victim+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(line)
	pid, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatal(err)
	}
	program, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(program)

	New(t)
	if slices.ContainsFunc(words[1:], gone) {
		t.Errorf("of %v some are gone while their process lives", words[1:])
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the process ended by itself")
	}
	New(t)
	for _, name := range words[1:] {
		if !gone(name) {
			t.Errorf("namespace %s is still there", name)
		}
	}
	// The descriptor of a process is readable once it has ended.
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(program), Events: unix.POLLIN}}, 5000); n != 1 {
		t.Errorf("the program in the lab is still there after 5 s: %v", err)
	}
}

func TestCloseEndsProgramsAndRemovesNamespaces(t *testing.T) {
	l := New(t)
	r := l.Router("r", NAT{Kind: PortRestricted})
	h := r.Host("h")
	h.SetLink(Link{Delay: time.Millisecond})
	if err := l.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ns := range l.spaces {
		names = append(names, ns.name)
	}
	// The program is in the lab only once nsenter has taken it there.
	for deadline := time.Now().Add(5 * time.Second); ; {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the program doesn't start: %v", err)
		}
		if string(comm) == "sleep\n" {
			break
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the program ended by itself")
	}
	for _, name := range names {
		if !gone(name) {
			t.Errorf("namespace %s is still there", name)
		}
	}
	if err := l.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if err := h.Do(func() error { return nil }); err == nil {
		t.Error("Do works in a lab that is closed")
	}
}

func TestLabOfAProgramKeepsItsFirstError(t *testing.T) {
	New(t) // or skip
	l, err := Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Err(); err != nil {
		t.Fatalf("Err() = %v at first", err)
	}
	r := l.Router("r", NAT{Kind: PortRestricted})
	r.SetNAT(NAT{Kind: None})
	if err := l.Err(); err == nil || !strings.Contains(err.Error(), "lab: r: set NAT") {
		t.Errorf("Err() = %v, want what couldn't be done", err)
	}
	l.Close()
	h := r.Host("late")
	if err := h.Do(func() error { return nil }); err == nil {
		t.Error("Do works on a host that was not made")
	}
	if err := h.Command(t.Context(), "true").Run(); err == nil {
		t.Error("a program runs on a host that was not made")
	}
	h.Down()
	h.MoveTo(r)
	r.Reboot()
}

func TestDoIsOnTheHostAndNotAfterwards(t *testing.T) {
	l := New(t)
	h := l.Host("h")
	own := func() string {
		to, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		return to
	}
	before := own()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := h.Do(func() error {
				if own() == before {
					t.Error("Do runs where its caller is")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if got := own(); got != before {
				t.Errorf("after Do a goroutine is in %v, before in %v", got, before)
			}
		})
	}
	wg.Wait()
	want := errors.New("word")
	if err := h.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("Do(...) = %v, want the error of the function", err)
	}
}

func TestSixMachinesAreMadeWithinASecond(t *testing.T) {
	start := time.Now()
	l := New(t)
	l.Host("a")
	r1, r2 := l.Router("r1", NAT{Kind: FullCone}), l.Router("r2", NAT{Kind: Symmetric})
	r1.Host("b")
	r2.Host("c")
	took := time.Since(start)
	t.Logf("took %v", took)
	if took > time.Second {
		t.Errorf("took %v", took)
	}
}

// No packet is lost because a device was made a moment ago.
func TestMachinesAreReadyWhenTheyAreMade(t *testing.T) {
	for range 10 {
		l := New(t)
		a, r := l.Host("a"), l.Router("r", NAT{Kind: PortRestricted, IPv6: true})
		b := r.Host("b")
		for range 2 {
			for _, way := range [][2]netip.Addr{{b.Addr6(), a.Addr6()}, {b.Addr(), a.Addr()}} {
				// One that is lost never comes, however busy the machine is.
				if _, ok := roundTrip(t, listen(t, b, way[0]), echo(t, a, way[1]), 8, 20*time.Second); !ok {
					t.Errorf("the first packet from %v to %v doesn't come back", way[0], way[1])
				}
			}
			b.SetLink(Link{Delay: time.Millisecond})
		}
		l.Close()
	}
}

func TestManyHostsBehindOneAddress(t *testing.T) {
	l := New(t)
	a, r := l.Host("a"), l.Router("r", NAT{Kind: PortRestricted})
	const count = 100
	start := time.Now()
	var last *Host
	for i := range count {
		last = r.Host(fmt.Sprint("h", i))
	}
	t.Logf("%d hosts took %v", count, time.Since(start))
	if !reaches(t, listen(t, last, last.Addr()), echo(t, a, a.Addr())) {
		t.Error("the last doesn't reach the Internet")
	}
}
