package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// A router answers within milliseconds, so that a lost packet is sent again
	// long before what the RFCs ask of those that are in no hurry.
	firstRetry = 250 * time.Millisecond

	// giveUp is after the fourth packet, at 0, 250, 750 and 1750 ms.
	giveUp = 3 * time.Second

	largestPacket = 1100 // RFC 6887, section 7; those of NAT-PMP are smaller
)

var (
	errSilent  = errors.New("no answer from the router")
	errUseless = errors.New("router gave a mapping without an address, a port or a lifetime")
)

// An ask is a request for a mapping.
type ask struct {
	proto     Proto
	port      uint16
	suggested netip.AddrPort // what it was, or zero
	lifetime  time.Duration  // zero deletes it
	nonce     [12]byte       // the same for as long as the mapping is to last
}

// A reply is what a router says, as far as it does.
type reply struct {
	external netip.AddrPort
	lifetime time.Duration
	epoch    uint32
	forgot   bool // by its epoch, the router lost what it was told before
}

func (r reply) usable() bool {
	a := r.external.Addr()
	return a.Is4() && !a.IsUnspecified() && r.external.Port() != 0 && r.lifetime > 0
}

// exchange sends a request until it is answered. The socket is connected, so that
// the kernel drops what isn't from the server. What read calls errOther is passed
// over.
func exchange(ctx context.Context, server netip.AddrPort, write func(local netip.Addr) []byte,
	read func([]byte) (reply, error)) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	request := write(conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap())
	for wait := firstRetry; ; wait *= 2 {
		if _, err := conn.Write(request); err != nil {
			return reply{}, silence(ctx, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return reply{}, silence(ctx, err)
		}
		r, err := readUntil(conn, read)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return r, silence(ctx, err)
		}
	}
}

func readUntil(conn *net.UDPConn, read func([]byte) (reply, error)) (reply, error) {
	buf := make([]byte, largestPacket+1)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return reply{}, err
		}
		if n > largestPacket {
			continue
		}
		if r, err := read(buf[:n]); !errors.Is(err, errOther) {
			return r, err
		}
	}
}

// silence names what a socket says when nothing is heard, or when nobody
// listens. Other errors are the router's and stay.
func silence(ctx context.Context, err error) error {
	var op *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, net.ErrClosed):
		return errSilent
	case errors.As(err, &op):
		return fmt.Errorf("%w: %w", errSilent, op.Err)
	}
	return err
}

// epochs are the counts of seconds that a router gave, by which it shows
// whether it has started anew.
type epochs struct {
	mu   sync.Mutex // guards the fields below
	last uint32
	at   time.Time
}

// forgot tells whether a router that says epoch has forgotten its mappings since
// it was last heard. If strict, also one whose count runs too fast has (RFC 6887,
// section 8.5); else it is RFC 6886, section 3.6, which knows only too slow.
func (e *epochs) forgot(epoch uint32, now time.Time, strict bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	last, at := int64(e.last), e.at
	e.last, e.at = epoch, now
	if at.IsZero() {
		return false
	}
	mine, its := int64(now.Sub(at)/time.Second), int64(epoch)-last
	if !strict {
		return its+2 < mine*7/8
	}
	return its < -1 || its+2 < mine-mine/16 || mine+2 < its-its/16
}
