//go:build !linux && !darwin

package unixsock

import (
	"errors"
	"syscall"
)

// Elsewhere no socket can be passed to another process.

func ownUser() uint32 { return 0 }

func socketPair() (ours, theirs int, err error) { return -1, -1, errors.ErrUnsupported }

func closeFD(int) {}

func shutdownFD(int, int) error { return errors.ErrUnsupported }

const (
	shutRead  = 0
	shutWrite = 1
)

type sender struct{}

func newSender(syscall.RawConn) *sender { return &sender{} }

func (s *sender) send([]byte, int, bool) error { return errors.ErrUnsupported }

type receiver struct {
	buf  []byte
	have int

	progress
}

func newReceiver(syscall.RawConn) *receiver {
	r := &receiver{}
	r.begin()
	return r
}

func (r *receiver) socket() (fd int, ok bool) { return -1, false }

func (r *receiver) close() {}

func (r *receiver) pending() bool { return false }

func (r *receiver) fill() error { return errors.ErrUnsupported }

func isUnix(syscall.RawConn) bool { return false }

func isStream(int) error { return errors.ErrUnsupported }
