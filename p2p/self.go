package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
)

// A loop is a connection from the node to itself: the two ends of a muxer over
// a pipe, so that streams to oneself behave as all others do.
type loop struct {
	mu   sync.Mutex // held while a stream is opened, so that both ends pair up
	near network.MuxedConn
	far  network.MuxedConn
}

func newLoop() (*loop, error) {
	a, b := net.Pipe()
	near, err := newMuxer().NewConn(a, false, nil)
	if err != nil {
		return nil, errors.Join(err, a.Close(), b.Close())
	}
	far, err := newMuxer().NewConn(b, true, nil)
	if err != nil {
		return nil, errors.Join(err, near.Close(), b.Close())
	}
	return &loop{near: near, far: far}, nil
}

func (l *loop) open(ctx context.Context) (near, far network.MuxedStream, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if near, err = l.near.OpenStream(ctx); err != nil {
		return nil, nil, err
	}
	if far, err = l.far.AcceptStream(); err != nil {
		return nil, nil, errors.Join(err, near.Reset())
	}
	return near, far, nil
}

func (l *loop) Close() error {
	return errors.Join(l.near.Close(), l.far.Close())
}

func (n *Node) dialSelf(ctx context.Context, proto string) (*Stream, error) {
	l, self, err := n.selfListener(proto)
	if err != nil {
		return nil, fmt.Errorf("dial self: %w", err)
	}
	near, far, err := self.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial self: %w", err)
	}
	info := streamInfo{local: n.id, remote: n.id, protocol: proto, path: PathSelf, lingers: true}
	l.offer(n.newStream(far, far, info))
	return n.newStream(near, near, info), nil
}

func (n *Node) selfListener(proto string) (*Listener, *loop, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[proto]
	if l == nil {
		return nil, nil, fmt.Errorf("%w for %s", ErrNoListener, proto)
	}
	if err := n.alive(); err != nil {
		return nil, nil, err
	}
	if n.self == nil {
		var err error
		if n.self, err = newLoop(); err != nil {
			return nil, nil, err
		}
	}
	return l, n.self, nil
}

// takeSelf takes the loop for Close, after which there will be no other.
func (n *Node) takeSelf() *loop {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.self
}
