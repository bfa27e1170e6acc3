package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
	"golang.org/x/sys/unix"
)

// memberArgument makes this binary a node that carries out orders.
const memberArgument = "e2e-member"

// An order is what a test has a process do. Config is for start and join.
type order struct {
	Do     string
	Config memberConfig
	Text   string // an invite, a target, a path, or what to say
	At     string // where a forward listens, or what an expose leads to
	Count  int
}

type memberConfig struct {
	Name       string
	LocalDir   string
	LocalUsers []uint32
	LocalOnly  bool
	NoLocal    bool
}

// An answer is what came of it.
type answer struct {
	Text  string
	Error string
	Log   string
	State state
	Ends  []ending
}

// A state is what a process holds.
type state struct {
	Files, Goroutines, Streams int
	Remade                     int
	Local, LocalError          string
	Addrs                      []string
	Members                    []string
	LinksUp                    []string
}

// An ending is how a stream ended. EOF is a clean end.
type ending struct {
	At  time.Time
	Err string
}

const cleanEnd = "EOF"

// A member is the node in a process, and the streams that it holds.
type member struct {
	mesh *overlay.Mesh
	log  logBuffer
	wg   sync.WaitGroup
	open []io.Closer

	mu   sync.Mutex
	cond *sync.Cond // ends has grown
	ends []ending
	held map[*overlay.Conn]struct{}
}

// runMember carries out orders until they end.
func runMember() int {
	m := &member{held: map[*overlay.Conn]struct{}{}}
	m.cond = sync.NewCond(&m.mu)
	defer m.close()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		a, err := m.carryOut(o)
		if err != nil {
			a.Error = err.Error()
		}
		a.Log = m.log.take()
		if err := out.Encode(a); err != nil {
			return 1
		}
	}
	return 0
}

func (m *member) carryOut(o order) (a answer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	switch o.Do {
	case "start", "join":
		return a, m.start(ctx, o)
	case "stop":
		m.close()
	case "invite":
		inv, err := m.mesh.Invite(overlay.InviteOptions{})
		if err != nil {
			return a, err
		}
		a.Text = inv.Text()
	case "id":
		a.Text = m.mesh.Self().ID.String()
	case "mesh":
		a.Text = m.mesh.ID().String()
	case "echo":
		return a, m.echo(o.Text)
	case "say":
		a.Text, err = m.say(ctx, o.Text)
	case "open":
		a.Text, err = m.openMany(ctx, o.Text, o.Count)
	case "reset":
		m.reset()
	case "ends":
		a.Ends = m.awaitEnds(o.Count)
	case "expose":
		return a, m.expose(o.Text, o.At)
	case "forward":
		a.Text, err = m.forward(o.Text, o.At)
	case "revoke":
		return a, m.mesh.Revoke(ctx, o.Text, overlay.RevokeOptions{})
	case "state":
		a.State, err = m.state()
	case "limit":
		return a, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(o.Count), Max: uint64(o.Count)})
	case "lo up":
		return a, loUp()
	case "serve tcp":
		a.Text, err = m.serveTCP()
	case "mount":
		return a, unix.Mount(o.Text, o.At, "", unix.MS_BIND, "")
	case "mount proc":
		return a, unix.Mount("none", "/proc", "proc", 0, "")
	case "unmount proc":
		return a, unix.Unmount("/proc", unix.MNT_DETACH)
	case "mount tmpfs":
		return a, unix.Mount("none", o.At, "tmpfs", 0, o.Text)
	case "squat":
		return a, m.squat(o)
	case "swap":
		return a, m.swap(o)
	default:
		err = fmt.Errorf("there is no order %q", o.Do)
	}
	return a, err
}

func (m *member) start(ctx context.Context, o order) (err error) {
	c := overlay.Config{
		Name: o.Config.Name, LocalDir: o.Config.LocalDir, LocalUsers: o.Config.LocalUsers,
		LocalOnly: o.Config.LocalOnly, NoLocal: o.Config.NoLocal,
		Logger: slog.New(slog.NewTextHandler(&m.log, nil)),
	}
	if !c.LocalOnly {
		c.Listen = []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0")}
	}
	if o.Do == "start" {
		m.mesh, err = overlay.Open(ctx, c)
	} else {
		m.mesh, err = overlay.Join(ctx, o.Text, c)
	}
	return err
}

// echo offers a service that sends back what it is sent, and holds each stream
// until it ends.
func (m *member) echo(service string) error {
	l, err := m.mesh.Listen(service)
	if err != nil {
		return err
	}
	m.open = append(m.open, l)
	m.wg.Go(func() {
		for {
			c, err := l.AcceptConn()
			if err != nil {
				return
			}
			m.hold(c, c)
		}
	})
	return nil
}

// hold copies what a stream has to w until it ends, and keeps in mind how.
func (m *member) hold(c *overlay.Conn, w io.Writer) {
	m.mu.Lock()
	m.held[c] = struct{}{}
	m.mu.Unlock()
	m.wg.Go(func() {
		buf := make([]byte, 512)
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{c}, buf)
		end := ending{time.Now(), cleanEnd}
		if err != nil {
			end.Err = err.Error()
			c.Reset()
		}
		c.Close()
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.held, c)
		m.ends = append(m.ends, end)
		m.cond.Broadcast()
	})
}

// awaitEnds returns how n streams ended, when as many have, and forgets them.
func (m *member) awaitEnds(n int) []ending {
	m.mu.Lock()
	defer m.mu.Unlock()
	timer := time.AfterFunc(patience/2, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		n = 0
		m.cond.Broadcast()
	})
	defer timer.Stop()
	for len(m.ends) < n {
		m.cond.Wait()
	}
	ends := m.ends
	m.ends = nil
	return ends
}

func (m *member) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.held {
		c.Reset()
	}
}

// say sends a word to a service that echoes, and returns the path and what came
// back.
func (m *member) say(ctx context.Context, target string) (string, error) {
	c, err := m.mesh.Dial(ctx, target)
	if err != nil {
		return "", err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if _, err := io.WriteString(c, "word"); err != nil {
		return "", err
	}
	if err := c.CloseWrite(); err != nil {
		return "", err
	}
	got, err := io.ReadAll(c)
	if err == nil && string(got) != "word" {
		err = fmt.Errorf("the echo of word is %q", got)
	}
	return c.Path().String(), err
}

// openMany opens streams one after another, and holds those over which a word got
// to the other end and back. It returns how many did. What the others failed with
// is the error.
func (m *member) openMany(ctx context.Context, target string, n int) (string, error) {
	var errs []error
	opened := 0
	for range n {
		c, err := m.mesh.Dial(ctx, target)
		if err == nil {
			deadline, _ := ctx.Deadline()
			_ = c.SetDeadline(deadline)
			if _, err = io.WriteString(c, "word"); err == nil {
				_, err = io.ReadFull(c, make([]byte, 4))
			}
			_ = c.SetDeadline(time.Time{})
			if err != nil {
				c.Reset()
			}
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		opened++
		m.hold(c, io.Discard)
	}
	return fmt.Sprint(opened), errors.Join(errs...)
}

// serveTCP sends back what comes at a port of this network namespace.
func (m *member) serveTCP() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	m.open = append(m.open, l)
	m.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	return l.Addr().String(), nil
}

func (m *member) expose(service, target string) error {
	at, err := forward.ParseAddress(target)
	if err != nil {
		return err
	}
	l, err := m.mesh.Listen(service)
	if err != nil {
		return err
	}
	e, err := forward.NewExpose(l, at, forward.Config{})
	if err != nil {
		return err
	}
	m.open = append(m.open, e)
	return nil
}

func (m *member) forward(target, listen string) (string, error) {
	at, err := forward.ParseAddress(listen)
	if err != nil {
		return "", err
	}
	f, err := forward.NewForward(m.mesh, target, at, forward.Config{})
	if err != nil {
		return "", err
	}
	m.open = append(m.open, f)
	return f.Addr().String(), nil
}

func (m *member) state() (s state, err error) {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return s, err
	}
	links, err := net.Interfaces()
	if err != nil {
		return s, err
	}
	for _, l := range links {
		if l.Flags&net.FlagUp != 0 {
			s.LinksUp = append(s.LinksUp, l.Name)
		}
	}
	s.Files, s.Goroutines = len(files), runtime.NumGoroutine()
	m.mu.Lock()
	s.Streams = len(m.held)
	m.mu.Unlock()
	if m.mesh == nil {
		return s, nil
	}
	var localErr error
	if s.Local, localErr = m.mesh.Local(); localErr != nil {
		s.LocalError = localErr.Error()
	}
	s.Remade = m.mesh.Node().LocalRemade()
	for _, a := range m.mesh.Addrs() {
		s.Addrs = append(s.Addrs, a.String())
	}
	for _, other := range m.mesh.Members() {
		s.Members = append(s.Members, other.Name)
	}
	slices.Sort(s.Members)
	return s, nil
}

func (m *member) close() {
	for _, o := range m.open {
		o.Close()
	}
	if m.mesh != nil {
		m.mesh.Close() // ends the streams
	}
	m.wg.Wait()
	m.open, m.mesh = nil, nil
}

// squat makes a socket by the name of the peer at o.At, as who knows the mesh
// o.Text can, which accepts and says nothing.
func (m *member) squat(o order) error {
	d, s, err := listenAs(o)
	if err != nil {
		return err
	}
	m.open = append(m.open, d)
	m.wg.Go(func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	})
	return nil
}

func listenAs(o order) (*unixsock.Directory, *unixsock.Socket, error) {
	mesh, err := credential.ParseMeshID(o.Text)
	if err != nil {
		return nil, nil, err
	}
	id, err := peer.Decode(o.At)
	if err != nil {
		return nil, nil, err
	}
	d, err := unixsock.OpenDirectory(o.Config.LocalDir, mesh[:], unixsock.Options{Users: o.Config.LocalUsers})
	if err != nil {
		return nil, nil, err
	}
	s, err := d.Listen(id)
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return d, s, nil
}

// swap has what is under a name that a peer's socket could have be now a dead
// socket, now a link to a file of somebody else, as fast as can be.
func (m *member) swap(o order) error {
	d, s, err := listenAs(o)
	if err != nil {
		return err
	}
	dir := o.Config.LocalDir
	before, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(s.Close(), d.Close()); err != nil {
		return err
	}
	var name string
	for _, f := range before {
		if _, err := os.Lstat(filepath.Join(dir, f.Name())); os.IsNotExist(err) {
			name = filepath.Join(dir, f.Name())
		}
	}
	if name == "" {
		return fmt.Errorf("no name of a socket among %v", before)
	}
	end := make(chan struct{})
	m.open = append(m.open, closerFunc(func() error { close(end); return nil }))
	m.wg.Go(func() {
		targets := []string{filepath.Join(dir, "precious"), filepath.Join(filepath.Dir(dir), "precious")}
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
			}
			other := fmt.Sprint(name, "-", i%2)
			target := targets[i/2%2]
			if i%2 == 0 {
				if l, err := net.ListenUnix("unix", &net.UnixAddr{Name: other, Net: "unix"}); err == nil {
					l.SetUnlinkOnClose(false)
					l.Close()
				}
			} else if os.Link(target, other) != nil { // as the kernel may forbid
				_ = os.Symlink(target, other)
			}
			_ = os.Rename(other, name)
		}
	})
	return nil
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// loUp brings up the loopback interface of a network namespace.
func loUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// A logBuffer keeps what is logged until it is taken.
type logBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *logBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := string(b.text)
	b.text = nil
	return text
}
