package unixsock

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/multiformats/go-multiaddr"
)

// maxHandshakes bounds the connections from outside whose handshake is not
// through. Who comes when there are so many waits in the kernel's queue.
const maxHandshakes = 64

// A Source accepts sockets. A [Socket] is one.
type Source interface {
	Accept() (*net.UnixConn, error)
	Close() error
}

// A Listener accepts connections. Besides those from outside it takes what Offer
// gives it, which is the one way for libp2p to get a connection that it has not
// dialed.
type Listener struct {
	transport *Transport
	source    Source
	addr      multiaddr.Multiaddr

	ready chan *Conn
	ctx   context.Context // ends with Close
	end   context.CancelFunc
	wg    sync.WaitGroup

	closeOnce sync.Once
	closeErr  error
}

var _ transport.Listener = (*Listener)(nil)

// ListenOn accepts the connections that come to a source. addr is what the
// connections say of where they go.
func (t *Transport) ListenOn(source Source, addr multiaddr.Multiaddr) *Listener {
	l := &Listener{transport: t, source: source, addr: addr, ready: make(chan *Conn)}
	l.ctx, l.end = context.WithCancel(context.Background())
	l.wg.Go(l.run)
	return l
}

func (l *Listener) run() {
	turns := make(chan struct{}, maxHandshakes)
	for {
		select {
		case turns <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		sock, err := l.source.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // it may pass, such as a want of descriptors
			<-turns
			select {
			case <-time.After(acceptDelay):
			case <-l.ctx.Done():
			}
			continue
		}
		l.wg.Go(func() {
			defer func() { <-turns }()
			if c, err := l.transport.upgrade(l.ctx, sock, l.addr, false, ""); err == nil {
				l.Offer(c)
			}
		})
	}
}

// acceptDelay is how long an Accept that failed is not tried again.
const acceptDelay = 50 * time.Millisecond

// Offer has Accept return a connection. It closes the connection if the
// listener is closed first, and returns false.
func (l *Listener) Offer(c *Conn) bool {
	select {
	case l.ready <- c:
		return true
	case <-l.ctx.Done():
		_ = c.Close()
		return false
	}
}

// Accept returns the next connection.
func (l *Listener) Accept() (transport.CapableConn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		return nil, transport.ErrListenerClosed
	}
}

// Close stops accepting, and waits for the listener's goroutines. Connections
// stay.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() {
		l.end()
		l.closeErr = l.source.Close()
		l.wg.Wait()
	})
	return l.closeErr
}

// Addr returns where the listener is.
func (l *Listener) Addr() net.Addr {
	path, _ := pathOf(l.addr) // it has one
	return &net.UnixAddr{Name: path, Net: "unix"}
}

// Multiaddr returns where the listener is.
func (l *Listener) Multiaddr() multiaddr.Multiaddr { return l.addr }
