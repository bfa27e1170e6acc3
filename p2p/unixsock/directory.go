package unixsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

var (
	// ErrNotHere says that a directory has no living socket of a peer.
	ErrNotHere = errors.New("no living socket of this peer in the directory")

	// ErrUnsafeDirectory says that a user who is not named in Options could put
	// files of their own in the place of the sockets in a directory.
	ErrUnsafeDirectory = errors.New("directory is not safe")

	// ErrCrowded says that there are more files in a directory than are looked
	// at, so that peers may be missed.
	ErrCrowded = errors.New("directory holds too many files")
)

// Options are what a Directory can do without. The zero Options is a
// directory of the calling user's own processes.
type Options struct {
	// Users lists whose sockets count and who may connect, by user ID, besides
	// the calling user.
	Users []uint32

	// Logger gets what an operator may want to read. If nil, nothing is logged.
	Logger *slog.Logger
}

// A Directory is where the processes of one mesh on one machine find each
// other with no network at all: each has a unix socket there, whose name tells
// the others, and only them, who it is. File events say who comes and goes;
// while all is well nothing is polled.
//
// A name is no proof: every user in Options.Users could make up a socket for
// it, or keep one that was another's. So whoever dials has the other end prove
// who it is, as on every path.
//
// The directory must be one machine's: what another machine does in it is not
// seen, and its sockets look dead.
type Directory struct {
	// Set by OpenDirectory and never changed.
	path    string
	private bool // it is the user's own, and so nobody else may enter
	users   []uint32
	names   names
	log     *slog.Logger
	closing chan struct{}
	done    chan struct{} // closed when run has returned

	mu       sync.Mutex // guards the fields below; never held during I/O
	handle   *handle    // nil while the directory is lost
	watcher  watcher
	entries  entries
	own      map[string]bool // names that the socket has or is about to have
	socket   *Socket         // nil if there is none
	changed  chan struct{}
	watchErr error
	scanErr  error
	closed   bool
}

// UserDirectory returns the directory of the calling user: p2pnode in
// $XDG_RUNTIME_DIR if that is an absolute path and not another user's, else in
// /run/user/UID if that is there and the user's, else p2pnode-UID in the
// directory for temporary files, or in /tmp where the former makes paths too
// long for sockets. It makes nothing. On Windows the error is
// [errors.ErrUnsupported].
func UserDirectory() (string, error) {
	if !supported {
		return "", fmt.Errorf("directory of sockets on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	const name = "p2pnode"
	uid := os.Geteuid()
	//nolint:forbidigo // the runtime directory is found here as all programs find it
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		// Another user's is what sudo and su leave in the environment. A file of
		// root's in there would be in that user's way.
		if owner, err := ownerOf(dir); err != nil || owner == uint32(uid) {
			return filepath.Join(dir, name), nil
		}
	}
	dir := filepath.Join("/run/user", strconv.Itoa(uid))
	if owner, err := ownerOf(dir); err == nil && owner == uint32(uid) {
		return filepath.Join(dir, name), nil
	}
	dir = filepath.Join(os.TempDir(), name+"-"+strconv.Itoa(uid))
	if !fits(dir) {
		dir = filepath.Join("/tmp", filepath.Base(dir))
	}
	return dir, nil
}

// OpenDirectory begins to watch a directory. Names in it are encrypted under a
// key made from secret, which all nodes of one mesh share and nobody else
// knows.
//
// A directory that is not there is made with mode 0700, but not those above
// it; with other Users it is not made, for whom to let in is to be decided by
// whoever makes it, say with mode 1777. It must be the calling user's, root's
// or one of Users', no symbolic link, and if others may write to it, sticky.
// That of [UserDirectory] must be the user's with mode 0700. If not, the error
// is [ErrUnsafeDirectory].
func OpenDirectory(path string, secret []byte, o Options) (*Directory, error) {
	d, err := openDirectory(path, secret, o)
	if err != nil {
		if p, ok := err.(*fs.PathError); ok && p.Path == path {
			err = fmt.Errorf("%s: %w", p.Op, p.Err) // the path is said already
		}
		return nil, fmt.Errorf("open directory of sockets %s: %w", path, err)
	}
	return d, nil
}

func openDirectory(path string, secret []byte, o Options) (*Directory, error) {
	path, err := filepath.Abs(path) // a change of the working directory changes nothing
	if err != nil {
		return nil, err
	}
	n, err := newNames(secret)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	users := append([]uint32{uint32(os.Geteuid())}, o.Users...)
	slices.Sort(users)
	user, err := UserDirectory()
	if err != nil {
		return nil, err
	}
	d := &Directory{
		path:    path,
		private: path == user,
		users:   slices.Compact(users),
		names:   n,
		log:     o.Logger.With("path", path),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		entries: newEntries(),
		own:     map[string]bool{},
		changed: make(chan struct{}),
	}
	if _, err := d.reopen(); err != nil {
		return nil, err
	}
	go d.run()
	return d, nil
}

// Path returns where the directory is, as an absolute path.
func (d *Directory) Path() string { return d.path }

// Users returns whose sockets count and who may connect, sorted, the calling
// user among them.
func (d *Directory) Users() []uint32 { return slices.Clone(d.users) }

// Has tells whether there is a socket of a peer, made by another than this
// Directory. It costs no more than a look into a map; whether the socket
// lives, Dial tells.
func (d *Directory) Has(id peer.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.entries.peers[id]) > 0
}

// Peers returns who has a socket, sorted, without the one listened for here.
func (d *Directory) Peers() []peer.ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := slices.Sorted(maps.Keys(d.entries.peers))
	if d.socket == nil {
		return ids
	}
	return slices.DeleteFunc(ids, func(id peer.ID) bool { return id == d.socket.id })
}

// Changed returns a channel that is closed when, after the call, a socket
// comes or goes. Whoever is to miss nothing calls it before [Directory.Peers].
func (d *Directory) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// Err says what keeps the directory from knowing at once who is there, or nil.
// It is tried again and again, at least every 30 seconds.
func (d *Directory) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := errors.Join(d.watchErr, d.scanErr)
	if err == nil {
		return nil
	}
	return fmt.Errorf("directory of sockets %s: %w", d.path, err)
}

// Listen makes a socket under a new name of id, and removes what dead
// processes left under older ones. A Directory has one socket at a time.
func (d *Directory) Listen(id peer.ID) (*Socket, error) {
	s, err := d.listen(id)
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", d.path, err)
	}
	return s, nil
}

func (d *Directory) listen(id peer.ID) (*Socket, error) {
	s := &Socket{dir: d, id: id}
	s.mu.Lock() // so that whoever finds it waits until it is there
	defer s.mu.Unlock()

	d.mu.Lock()
	h, err := d.handle, d.watchErr
	switch {
	case d.closed:
		err = net.ErrClosed
	case d.socket != nil:
		err = fmt.Errorf("there is a socket already, of peer %v", d.socket.id)
	case h != nil:
		err = nil
		d.socket = s
	}
	stale := d.entries.peers[id]
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}

	if s.bound, err = d.bind(h, id); err != nil {
		s.closed = true
		d.mu.Lock()
		d.socket = nil
		d.mu.Unlock()
		return nil, err
	}
	for _, e := range stale {
		if c, err := d.connect(h, e.name); err == nil {
			c.Close()
		}
	}
	return s, nil
}

// Dial connects to the newest living socket of a peer. The error is
// [ErrNotHere] if there is none; sockets of dead processes are removed on the
// way. A living one that has no room for another connection is waited for
// until ctx ends.
func (d *Directory) Dial(ctx context.Context, id peer.ID) (*net.UnixConn, error) {
	c, err := d.dial(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("dial %v in %s: %w", id, d.path, err)
	}
	return c, nil
}

func (d *Directory) dial(ctx context.Context, id peer.ID) (*net.UnixConn, error) {
	d.mu.Lock()
	h, list, closed := d.handle, d.entries.peers[id], d.closed
	d.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	err := ErrNotHere
	for _, e := range list {
		c, cause := d.connectWhenFree(ctx, h, e.name)
		switch {
		case cause == nil:
			return c, nil
		case ctx.Err() != nil || errors.Is(cause, net.ErrClosed):
			return nil, cause
		case errors.Is(err, ErrNotHere): // what is wrong with one that may live tells more
			err = cause
		}
	}
	return nil, err
}

// connectWhenFree connects to the socket of a name once it has room.
func (d *Directory) connectWhenFree(ctx context.Context, h *handle, name string) (*net.UnixConn, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		c, err := d.connect(h, name)
		if !errors.Is(err, syscall.EAGAIN) {
			return c, err
		}
		// The kernel tells nobody when there is room.
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("its queue of connections is full: %w", context.Cause(ctx))
		case <-d.closing:
			timer.Stop()
			return nil, net.ErrClosed
		}
	}
}

// connect connects to the socket of a name, without waiting. One that is not
// there or dead is forgotten, and if it may be, removed.
//
// A living process's socket is never removed. A name is given to a socket only
// once it listens, and a listening socket refuses nobody: it takes the
// connection or, if its queue is full, has the other wait. What refuses has
// been closed, which no socket comes back from, and names are never used
// twice. And what is removed is the very file that refused.
func (d *Directory) connect(h *handle, name string) (*net.UnixConn, error) {
	if h == nil {
		return nil, ErrNotHere
	}
	gone := func(format string, args ...any) error {
		d.forget(name)
		return fmt.Errorf("%w: "+format, append([]any{ErrNotHere}, args...)...)
	}
	t, err := h.open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, gone("%w", err)
	} else if errors.Is(err, os.ErrClosed) {
		return nil, d.lost()
	} else if err != nil {
		return nil, err
	}
	defer t.close()
	if !t.socket || !d.trusts(t.uid) {
		return nil, gone("%s is no socket of a user who counts", name)
	}
	c, err := t.connect()
	if errors.Is(err, syscall.ECONNREFUSED) {
		if h.removeStale(name, t.file) {
			d.log.Debug("socket of a dead process is removed", "name", name)
		}
		return nil, gone("%w", err)
	} else if err != nil {
		return nil, err
	}
	// Who serves it counts, not who made the file.
	uid, _, err := PeerUser(c)
	if err == nil && !d.trusts(uid) {
		err = gone("%s is served by user %d, who does not count", name, uid)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// lost returns why a directory that was open is not any more.
func (d *Directory) lost() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return net.ErrClosed
	}
	return ErrNotHere
}

// Close closes the socket, removing its file, and stops watching. It may be
// called again and at any time.
func (d *Directory) Close() error {
	d.mu.Lock()
	first, socket := !d.closed, d.socket
	if first {
		d.closed = true
		close(d.closing)
		d.watcher.close()
	}
	d.mu.Unlock()
	var err error
	if socket != nil {
		err = socket.Close()
	}
	<-d.done
	if !first {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.handle != nil {
		d.handle.close()
	}
	d.handle, d.entries = nil, newEntries()
	return err
}

// bind makes a socket under a new name for id.
func (d *Directory) bind(h *handle, id peer.ID) (*bound, error) {
	name, err := d.names.encode(id)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.own[name] = true // before there is an event of it
	d.mu.Unlock()
	b, err := h.bind(name, len(d.users) > 1)
	if err != nil {
		d.disown(name)
	}
	return b, err
}

func (d *Directory) disown(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.own, name)
}

func (d *Directory) trusts(uid uint32) bool {
	_, found := slices.BinarySearch(d.users, uid)
	return found
}

func (d *Directory) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.entries.drop(name) {
		d.tellLocked()
	}
}

// tellLocked tells who waits for a change that there was one.
func (d *Directory) tellLocked() {
	close(d.changed)
	d.changed = make(chan struct{})
}
