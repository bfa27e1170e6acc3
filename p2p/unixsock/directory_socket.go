package unixsock

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A Socket is where the other processes of a mesh reach a peer. If its file is
// removed or another takes its place, it makes itself a new one, under a new
// name, which the others find as they found the first.
type Socket struct {
	dir *Directory
	id  peer.ID

	mu     sync.Mutex // guards the fields below; held while a file is made
	bound  *bound
	remade int
	err    error
	closed bool
}

// A bound is a listening socket and its file.
type bound struct {
	listener *net.UnixListener
	in       *handle
	name     string
	id       fileID
}

// there tells whether the file of b is still its own.
func (b *bound) there() bool {
	f, err := b.in.stat(b.name)
	return err == nil && f.id == b.id
}

// unlink removes the file of b, if it is still its own.
func (b *bound) unlink() error {
	if !b.there() {
		return nil
	}
	return b.in.unlink(b.name)
}

// Accept returns the next connection of a user who may connect; others are
// hung up on. After Close the error is [net.ErrClosed]. Any other passes, such
// as that there are too many open files.
func (s *Socket) Accept() (*net.UnixConn, error) {
	for {
		s.mu.Lock()
		b, closed := s.bound, s.closed
		s.mu.Unlock()
		if closed {
			return nil, fmt.Errorf("accept in %s: %w", s.dir.path, net.ErrClosed)
		}
		c, err := b.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			continue // it was closed or made anew
		} else if err != nil {
			return nil, fmt.Errorf("accept in %s: %w", s.dir.path, err)
		}
		uid, pid, err := PeerUser(c)
		if err == nil && s.dir.trusts(uid) {
			return c, nil
		}
		c.Close()
		s.dir.log.Debug("connection is refused", "uid", uid, "pid", pid, "err", err)
	}
}

// Remade returns how many times a new file had to be made.
func (s *Socket) Remade() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remade
}

// Err says why others cannot reach the socket just now, or nil. It is tried
// again and again, at least every 30 seconds.
func (s *Socket) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return fmt.Errorf("socket in %s: %w", s.dir.path, s.err)
}

// Close ends Accept and removes the file, if it is still the socket's own.
// Connections that were accepted stay. It may be called again.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	// First the file, so that it never looks like a dead process's.
	err := s.bound.unlink()
	if err != nil && s.err == nil {
		err = fmt.Errorf("remove socket in %s: %w", s.dir.path, err)
	} else {
		err = nil
	}
	s.bound.listener.Close()
	d := s.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.own, s.bound.name)
	d.socket = nil
	return err
}

// mend makes a new file in h if there is none of the socket's own.
func (s *Socket) mend(h *handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	old := s.bound
	if old.in == h && old.there() {
		s.err = nil
		return
	}
	b, err := s.dir.bind(h, s.id)
	if err != nil {
		if s.err == nil {
			s.dir.log.Warn("socket was removed and can't be made again", "peer", s.id, "err", err)
		}
		s.err = fmt.Errorf("make it again: %w", err)
		return
	}
	s.bound, s.err = b, nil
	s.remade++
	// Who waits in the old one's queue is hung up on and dials again.
	old.listener.Close()
	s.dir.disown(old.name)
	s.dir.log.Warn("socket was removed and is made again", "peer", s.id)
}

// strand says that the directory of the socket is lost.
func (s *Socket) strand(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	_ = s.bound.unlink() // if it was only moved, or is not safe
	s.err = fmt.Errorf("its directory is lost: %w", err)
}
