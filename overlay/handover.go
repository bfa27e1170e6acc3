package overlay

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// HandsOver has the listener's streams come in before they are agreed on where they
// could be handed over. Whoever gets such a one, which is Unanswered, has to call
// Agree or HandOver, and the member that dialed it waits. take is called with each
// as soon as it comes, and must not wait; if it returns false, the stream is for
// Accept.
func (l *Listener) HandsOver(take func(net.Conn) bool) {
	l.mesh.mu.Lock()
	defer l.mesh.mu.Unlock()
	l.handsOver = take
}

// An answer is what the member that dialed waits for.
type answer struct {
	take func(net.Conn) bool // is to give it, if it can at once

	mu    sync.Mutex // held while it is given
	given bool
}

var errAnswered = errors.New("the stream was agreed on before")

// give calls give unless there was an answer before.
func (a *answer) give(give func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given {
		return errAnswered
	}
	a.given = true
	return give()
}

// Unanswered tells whether the stream was accepted before it is agreed on.
func (c *Conn) Unanswered() bool { return c.answer != nil }

// Agree gives the member at the other end the stream, unless it has been given it.
func (c *Conn) Agree() error {
	if c.answer == nil {
		return nil
	}
	err := c.answer.give(c.agree)
	if errors.Is(err, errAnswered) {
		return nil
	}
	return err
}

func (c *Conn) agree() error { return c.Stream.Answer(agreed) }

// HandOver agrees by giving the member at the other end a socket that this node
// has connected to what the service stands for. See [p2p.Stream.HandOver] for what
// follows; the Conn stays among the mesh's own, which ends it when the member may
// not use the service any more.
func (c *Conn) HandOver(socket syscall.RawConn, ended func(error)) error {
	if c.answer == nil {
		return errAnswered
	}
	return c.answer.give(func() error { return c.Stream.HandOver(agreed, socket, ended) })
}
