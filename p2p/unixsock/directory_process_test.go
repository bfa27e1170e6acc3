//go:build linux

package unixsock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The environment of a process that a test starts says what to do there.
const (
	processDoes  = "UNIXSOCK_TEST_DOES"
	processPath  = "UNIXSOCK_TEST_PATH"
	processUsers = "UNIXSOCK_TEST_USERS"
)

// processes are what tests have other processes do. Each returns what to tell
// the test; a process ends when the test wants no more of it.
var processes = map[string]func(path string, users []uint32) string{
	// listens as peer 2.
	"listen": func(path string, users []uint32) string {
		d, err := OpenDirectory(path, []byte("one"), Options{Users: users})
		if err != nil {
			return err.Error()
		}
		if _, err := d.Listen(peerTwo); err != nil {
			return err.Error()
		}
		return "listens"
	},
	// dials peer 1 and says what it is told.
	"dial": func(path string, users []uint32) string {
		d, err := OpenDirectory(path, []byte("one"), Options{Users: users})
		if err != nil {
			return err.Error()
		}
		defer d.Close()
		ctx, cancel := context.WithTimeout(context.Background(), directoryPatience)
		defer cancel()
		c, err := d.Dial(ctx, peerOne)
		if err != nil {
			return err.Error()
		}
		return hear(c)
	},
	// connects to each socket there is, without knowing whose it is.
	"connect": func(path string, _ []uint32) string {
		files, err := filepath.Glob(filepath.Join(path, "*"))
		if err == nil && len(files) == 0 {
			_, err = os.ReadDir(path)
		}
		if err != nil {
			return err.Error()
		}
		var said []string
		for _, f := range files {
			c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: f, Net: "unix"})
			if err != nil {
				said = append(said, err.Error())
				continue
			}
			said = append(said, hear(c))
		}
		return strings.Join(said, "; ")
	},
	// does to each file what would harm its owner.
	"attack": func(path string, _ []uint32) string {
		files, err := filepath.Glob(filepath.Join(path, "*"))
		if err != nil || len(files) == 0 {
			return fmt.Sprintf("no files: %v", err)
		}
		for _, f := range files {
			mine := f + "x"
			if err := os.Symlink("x", mine); err != nil {
				return err.Error()
			}
			for what, err := range map[string]error{
				"remove":  os.Remove(f),
				"rename":  os.Rename(f, f+"y"),
				"replace": os.Rename(mine, f),
				"chmod":   os.Chmod(f, 0),
				"link":    os.Link(f, f+"z"),
			} {
				if !errors.Is(err, os.ErrPermission) {
					return fmt.Sprintf("%s: %v", what, err)
				}
			}
			os.Remove(mine)
		}
		return "denied"
	},
	// puts up what has the names of peers 1 and 2, knowing the secret: a
	// socket, dead, and a link to the file whose path is in the file "target".
	"forge": func(path string, _ []uint32) string {
		h, err := openHandle(path, false)
		if err != nil {
			return err.Error()
		}
		n, err := newNames([]byte("one"))
		if err != nil {
			return err.Error()
		}
		name, err := n.encode(peerTwo)
		if err != nil {
			return err.Error()
		}
		b, err := h.bind(name, true)
		if err != nil {
			return err.Error()
		}
		living = b
		if name, err = n.encode(peerTwo); err != nil {
			return err.Error()
		}
		if b, err = h.bind(name, true); err != nil {
			return err.Error()
		}
		b.listener.Close()
		if name, err = n.encode(peerOne); err != nil {
			return err.Error()
		}
		if err := os.Symlink(path+".target", filepath.Join(path, name)); err != nil {
			return err.Error()
		}
		return "forged"
	},
	// makes the directory before its user does.
	"squat": func(path string, _ []uint32) string {
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777)); err != nil {
			return err.Error()
		}
		return "squats"
	},
	// uses up all the watchers that a user has, and then lives without.
	"unwatched": func(path string, users []uint32) string {
		var used []int
		for {
			fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
			if errors.Is(err, unix.EMFILE) {
				break
			} else if err != nil {
				return err.Error()
			}
			used = append(used, fd)
		}
		d, err := OpenDirectory(path, []byte("one"), Options{Users: users})
		if err != nil {
			return err.Error()
		}
		defer d.Close()
		if err := d.Err(); !errors.Is(err, unix.EMFILE) || !strings.Contains(err.Error(), "max_user_instances") {
			return fmt.Sprintf("Err() = %v", err)
		}
		s, err := d.Listen(peerTwo)
		if err != nil {
			return err.Error()
		}
		for !d.Has(peerOne) {
			select {
			case <-d.Changed():
			case <-time.After(directoryPatience):
				return "the peer is not seen"
			}
		}
		// Its own socket is looked after too.
		if err := os.Remove(filepath.Join(path, s.bound.name)); err != nil {
			return err.Error()
		}
		end := time.Now().Add(directoryPatience)
		for s.Remade() == 0 && time.Now().Before(end) {
			runtime.Gosched()
		}
		for _, fd := range used {
			unix.Close(fd)
		}
		for d.Err() != nil && time.Now().Before(end) {
			runtime.Gosched()
		}
		return fmt.Sprintf("made again %d, then %v", s.Remade(), d.Err())
	},
}

var living *bound // keeps the socket that was forged

var peerOne, peerTwo = numberedPeer(panics{}, 1), numberedPeer(panics{}, 2)

// panics is for what no test is there to fail of.
type panics struct{ testing.TB }

func (panics) Helper()        {}
func (panics) Fatal(a ...any) { panic(fmt.Sprint(a...)) }

// hear returns what the other end says, before it hangs up.
func hear(c net.Conn) string {
	defer c.Close()
	b, err := io.ReadAll(c)
	if len(b) == 0 {
		return fmt.Sprintf("hung up on, %v", err)
	}
	return string(b)
}

// TestProcess is what the processes run that other tests start.
func TestProcess(t *testing.T) {
	does := os.Getenv(processDoes)
	if does == "" {
		t.Skip("is run by other tests")
	}
	var users []uint32
	for _, s := range strings.Fields(os.Getenv(processUsers)) {
		uid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		users = append(users, uint32(uid))
	}
	fmt.Printf("\n> %s\n", strings.ReplaceAll(processes[does](os.Getenv(processPath), users), "\n", " "))
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A process is one that a test started.
type process struct {
	cmd   *exec.Cmd
	said  string
	stdin io.Closer
}

// startProcess has another process do something, as a user, and returns what
// it says when it has.
func startProcess(t testing.TB, uid uint32, does, path string, users ...uint32) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*directoryPatience)
	cmd := exec.CommandContext(ctx, testProgram(t), "-test.run=^TestProcess$", "-test.count=1")
	cmd.Env = []string{processDoes + "=" + does, processPath + "=" + path, processUsers + "=" + strings.Trim(fmt.Sprint(users), "[]")}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	if uid != uint32(os.Geteuid()) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
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
	p := &process{cmd: cmd, stdin: stdin}
	t.Cleanup(func() {
		p.kill()
		cancel()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if said, ok := strings.CutPrefix(lines.Text(), "> "); ok {
			p.said = said
			return p
		}
	}
	t.Fatalf("process that is to %s ended without a word: %v", does, lines.Err())
	return nil
}

// kill ends a process without a chance to tidy up.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// testProgram returns a copy of this program that all users may run.
func testProgram(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "us")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, program, 0o755), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

func checkSaid(t testing.TB, p *process, want string) {
	t.Helper()
	if !strings.Contains(p.said, want) {
		t.Errorf("the process says %q, want %q", p.said, want)
	}
}

func TestProcessIsKilled(t *testing.T) {
	path := filepath.Join(shortDir(t), "d")
	d := openTestDirectory(t, path, "one", Options{})
	p := startProcess(t, uint32(os.Geteuid()), "listen", path)
	checkSaid(t, p, "listens")
	waitForPeer(t, d, 2)
	c, err := d.Dial(directoryContext(t), peerTwo)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	p.kill()
	checkFiles(t, path, 1)
	_, err = d.Dial(directoryContext(t), peerTwo)
	checkDirectoryError(t, "Dial", err, ErrNotHere)
	checkFiles(t, path, 0)
}

// Two users that no test machine gives a name or a process.
const userA, userB = 64901, 64902

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be other users")
	}
}

// sharedDir returns a directory in which all users may make files.
func sharedDir(t testing.TB) string {
	t.Helper()
	path := shortDir(t)
	if err := os.Chmod(path, os.ModeSticky|0o777); err != nil {
		t.Fatal(err)
	}
	return path
}

// greet tells whoever comes that they were let in.
func greet(s *Socket) {
	for {
		c, err := s.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "let in")
		c.Close()
	}
}

func TestUsers(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		name   string
		shared bool
		users  []uint32 // of the directory that listens
		does   string
		says   string
	}{
		{"the user's own directory", false, nil, "connect", "permission denied"},
		{"the user's own directory, with the secret", false, nil, "dial", "permission denied"},
		{"a shared one that lets nobody in", true, nil, "connect", "permission denied"},
		{"a shared one that lets nobody in, with the secret", true, nil, "dial", "permission denied"},
		{"a shared one that lets another in", true, []uint32{userB}, "connect", "hung up on"},
		{"a shared one that lets another in, with the secret", true, []uint32{userB}, "dial", "hung up on"},
		{"a shared one that lets the user in", true, []uint32{userA}, "dial", "let in"},
		{"harm", true, []uint32{userA}, "attack", "denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			path := filepath.Join(shortDir(t), "d")
			if tt.shared {
				path = sharedDir(t)
			} else if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			d := openTestDirectory(t, path, "one", Options{Users: tt.users})
			defer d.Close()
			s := listenInDirectory(t, d, 1)
			go greet(s)
			p := startProcess(t, userA, tt.does, path, 0)
			defer p.kill()
			checkSaid(t, p, tt.says)
			if n := s.Remade(); n != 0 {
				t.Errorf("Remade() = %d, want 0", n)
			}
			checkFiles(t, path, 1)
		})
	}
}

// A user who does not count may know the secret, and is nobody still.
func TestSocketsOfOtherUsers(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		name  string
		users []uint32
		has   bool
	}{
		{"who does not count", []uint32{userB}, false},
		{"who counts", []uint32{userA}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := sharedDir(t)
			target, err := net.Listen("unix", path+".target")
			if err != nil {
				t.Fatal(err)
			}
			defer target.Close()
			d := openTestDirectory(t, path, "one", Options{Users: tt.users})
			p := startProcess(t, userA, "forge", path)
			checkSaid(t, p, "forged")
			late := openTestDirectory(t, path, "one", Options{Users: tt.users})
			marker := openTestDirectory(t, path, "one", Options{Users: tt.users})
			if _, err := marker.Listen(numberedPeer(t, 3)); err != nil {
				t.Fatal(err)
			}
			waitForPeer(t, d, 3) // after all that was forged
			files := socketFiles(t, path)
			for _, d := range []*Directory{d, late} {
				if d.Has(peerTwo) != tt.has || d.Has(peerOne) {
					t.Errorf("Has() of a socket, a link = %v, %v, want %v, false", d.Has(peerTwo), d.Has(peerOne), tt.has)
				}
				c, err := d.Dial(directoryContext(t), peerTwo)
				if err == nil {
					c.Close()
				}
				if tt.has && err != nil || !tt.has && !errors.Is(err, ErrNotHere) {
					t.Errorf("Dial = %v, want success: %v", err, tt.has)
				}
			}
			// Root may remove the dead one of a user who counts; nothing else.
			left := socketFiles(t, path)
			want := len(files)
			if tt.has {
				want--
			}
			if len(left) != want {
				t.Errorf("%d files are left of %d, want %d", len(left), len(files), want)
			}
		})
	}
}

func TestAnotherUserIsFound(t *testing.T) {
	needRoot(t)
	path := sharedDir(t)
	d := openTestDirectory(t, path, "one", Options{Users: []uint32{userA}})
	p := startProcess(t, userA, "listen", path, 0)
	checkSaid(t, p, "listens")
	waitForPeer(t, d, 2)
	c, err := d.Dial(directoryContext(t), peerTwo)
	if err != nil {
		t.Fatal(err)
	}
	if uid, pid, err := PeerUser(c); err != nil || uid != userA || pid != int32(p.cmd.Process.Pid) {
		t.Errorf("PeerUser() = %d, %d, %v, want %d, %d", uid, pid, err, userA, p.cmd.Process.Pid)
	}
	c.Close()
}

// The file is of a user who counts, but who serves it does not.
func TestSocketThatWasHandedOn(t *testing.T) {
	needRoot(t)
	path := sharedDir(t)
	d := openTestDirectory(t, path, "one", Options{Users: []uint32{userB}})
	p := startProcess(t, userA, "forge", path)
	checkSaid(t, p, "forged")
	for _, name := range socketFiles(t, path) {
		if err := os.Lchown(filepath.Join(path, name), userB, userB); err != nil {
			t.Fatal(err)
		}
	}
	waitForPeer(t, d, 2) // by the event of its change
	_, err := d.Dial(directoryContext(t), peerTwo)
	checkDirectoryError(t, "Dial", err, ErrNotHere)
	waitInDirectory(t, d, "it is nobody's", func() bool {
		_, err := d.Dial(directoryContext(t), peerTwo)
		return errors.Is(err, ErrNotHere) && !d.Has(peerTwo)
	})
}

func TestDirectoryThatIsInTheWay(t *testing.T) {
	needRoot(t)
	tmp := sharedDir(t)
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", tmp)
	path, err := UserDirectory()
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(tmp, "p2pnode-0"); path != want {
		t.Skipf("UserDirectory() = %q, which no other user can make", path)
	}
	checkSaid(t, startProcess(t, userA, "squat", path), "squats")
	for _, users := range [][]uint32{nil, {userA}} { // not even if that user counts
		d, err := OpenDirectory(path, []byte("one"), Options{Users: users})
		if err == nil {
			d.Close()
		}
		checkDirectoryError(t, "OpenDirectory", err, ErrUnsafeDirectory, path, "user 64901")
	}
	if files := socketFiles(t, path); len(files) > 0 {
		t.Errorf("the directory holds %q, want nothing", files)
	}
}

// What sudo leaves in the environment is another user's.
func TestUserDirectoryOfAnotherUser(t *testing.T) {
	needRoot(t)
	run := shortDir(t)
	if err := os.Chown(run, userA, userA); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", run)
	if got, err := UserDirectory(); err != nil || filepath.Dir(got) == run {
		t.Errorf("UserDirectory() = %q, %v, want none of another user", got, err)
	}
}

func TestDirectoryOfAnotherUser(t *testing.T) {
	needRoot(t)
	path := shortDir(t)
	if err := os.Chown(path, userA, userA); err != nil {
		t.Fatal(err)
	}
	_, err := OpenDirectory(path, []byte("one"), Options{})
	checkDirectoryError(t, "OpenDirectory", err, ErrUnsafeDirectory, path, "user 64901")
	d := openTestDirectory(t, path, "one", Options{Users: []uint32{userA}})
	if got, want := d.Users(), []uint32{0, userA}; !slices.Equal(got, want) {
		t.Errorf("Users() = %v, want %v", got, want)
	}
}

func TestDirectoryWithoutWatchers(t *testing.T) {
	needRoot(t)
	path := sharedDir(t)
	d := openTestDirectory(t, path, "one", Options{Users: []uint32{userA}})
	listenInDirectory(t, d, 1)
	checkSaid(t, startProcess(t, userA, "unwatched", path, 0), "made again 1, then <nil>")
}
