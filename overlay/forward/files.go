package forward

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// filesHeaderTimeout bounds how long a client may take to send a request's
	// header, and filesIdleTimeout how long it may wait before the next.
	filesHeaderTimeout = 10 * time.Second
	filesIdleTimeout   = 2 * time.Minute

	// maxFilesHeader bounds that header.
	maxFilesHeader = 16 << 10
)

// Files offers a directory's files as a service, over HTTP and for reading alone.
// Its methods may be called at the same time.
type Files struct {
	root   *os.Root
	server *http.Server
	open   net.Listener
	served chan struct{} // closed when server has stopped accepting
	meter  meter
	log    *slog.Logger

	closeOnce sync.Once
	closeErr  error
}

// NewFiles serves a directory to the streams that ln accepts, which is a service's
// listener. Nothing outside the directory is reached, whatever names and links are
// in it. Only GET and HEAD are answered; ranges and conditions are understood.
// Unless there is an error, ln is closed with the Files.
//
// Of the Config, MaxOpen and Logger matter; IdleTimeout is how long a connection may
// be idle between requests, where zero means 2 minutes.
func NewFiles(ln net.Listener, dir string, c Config) (*Files, error) {
	c, err := c.withDefaults(defaultExposeDialTimeout)
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("forward: files of %s: %w", dir, reasonOfPath(err))
	}
	f := &Files{root: root, served: make(chan struct{}), log: c.Logger.With("service", ln.Addr().String(), "dir", dir)}
	f.open = netutil.LimitListener(meteredListener{ln, &f.meter}, c.MaxOpen)
	f.server = &http.Server{
		Handler:           readOnly(http.FileServerFS(plainFiles{root})),
		ReadHeaderTimeout: filesHeaderTimeout,
		IdleTimeout:       cmp.Or(c.IdleTimeout, filesIdleTimeout),
		MaxHeaderBytes:    maxFilesHeader,
		ErrorLog:          slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
	}
	go f.serve()
	return f, nil
}

func (f *Files) serve() {
	defer close(f.served)
	if err := f.server.Serve(f.open); !errors.Is(err, http.ErrServerClosed) {
		f.meter.failure(err)
		f.log.Info("listener is closed", "err", err)
	}
}

// readOnly refuses all that is not for reading.
func readOnly(files http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "these files are for reading alone", http.StatusMethodNotAllowed)
			return
		}
		// A browser takes a file for what it is called and nothing else.
		w.Header().Set("X-Content-Type-Options", "nosniff")
		files.ServeHTTP(w, r)
	})
}

// noName are the system's answers to names that no file has.
var noName = []syscall.Errno{syscall.EINVAL, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.ENOTDIR}

// plainFiles are the files and directories of a root.
type plainFiles struct{ root *os.Root }

// Open gives nothing but files and directories: to open a pipe is to wait for who
// writes to it. What a link names outside the root is not there.
func (p plainFiles) Open(name string) (fs.File, error) {
	info, err := p.root.Stat(name)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err = fs.ErrNotExist
	}
	if err == nil {
		return p.root.FS().Open(name)
	}
	if errno := syscall.Errno(0); !errors.As(err, &errno) || slices.Contains(noName, errno) {
		err = fs.ErrNotExist // what is no errno is the root's own word
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: err}
}

// A meteredListener counts what goes through the connections that it accepts.
type meteredListener struct {
	net.Listener
	meter *meter
}

func (l meteredListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.meter.opened()
	return &meteredConn{Conn: c, meter: l.meter}, nil
}

type meteredConn struct {
	net.Conn
	meter *meter
	once  sync.Once
}

func (c *meteredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.meter.toDialled.Add(uint64(n))
	return n, err
}

func (c *meteredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.meter.toAccepted.Add(uint64(n))
	return n, err
}

func (c *meteredConn) Close() error {
	c.once.Do(c.meter.closed)
	return c.Conn.Close()
}

// Stats returns the counts up to now. It may be called after Close. Sent and
// Received are bytes of HTTP.
func (f *Files) Stats() Stats {
	s := f.meter.stats()
	s.Sent, s.Received = s.Received, s.Sent // what is accepted here is the mesh's side
	return s
}

// Close ends the offer of the service and the connections that are open. It may be
// called more than once.
func (f *Files) Close() error {
	f.closeOnce.Do(func() {
		f.closeErr = errors.Join(f.server.Close(), f.open.Close())
		if errors.Is(f.closeErr, net.ErrClosed) {
			f.closeErr = nil
		}
		<-f.served
		f.closeErr = errors.Join(f.closeErr, f.root.Close())
	})
	return f.closeErr
}
