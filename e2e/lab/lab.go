package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
)

// Names of namespaces begin with this, then come the process and a number, so
// that what a killed process left can be told and removed.
const prefix = "p2plab-"

// ErrUnavailable is what errors are that say why this machine can have no lab.
var ErrUnavailable = errors.New("lab: not on this machine")

// TB is what New needs of a test; testing.TB has it.
type TB interface {
	Helper()
	Cleanup(func())
	Skip(...any)
	Fatal(...any)
}

// A Lab is an Internet with hosts and routers. Its methods and those of its
// parts may be used by several goroutines.
//
// What a method can't do fails the test, if the Lab is of a test, which then
// wants them called in the test's goroutine. Otherwise Err has the first error,
// and what needs the part that is not there returns errors.
type Lab struct {
	fatal func(error) // nil if the lab is of no test

	internet *network

	mu      sync.Mutex // guards the fields below and those of all parts
	err     error
	closed  bool
	ports   int
	lans    int
	publics int
	spaces  []*namespace
	routers []*Router
	all     []*port

	segmented bool // cables carry packets one by one
}

// Number of the last namespace that this process made.
var spaces atomic.Int64

// New makes an Internet with nobody in it that lives as long as the test. It
// skips the test if the machine can't have one, and says why.
func New(t TB) *Lab {
	t.Helper()
	l, err := Open(context.Background())
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.fatal = func(err error) { t.Helper(); t.Fatal(err) }
	t.Cleanup(func() { l.Close() })
	return l
}

// Open makes an Internet with nobody in it. It first removes what labs of
// processes that have been killed left on the machine. The error is
// ErrUnavailable if that is for lack of rights, programs or parts of the kernel.
func Open(ctx context.Context) (_ *Lab, err error) {
	if err := missing(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("lab: remove leftovers: %w", err)
	}
	l := &Lab{}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	ns, err := l.space()
	if err != nil {
		return nil, fmt.Errorf("%w: namespaces can't be made: %w", ErrUnavailable, err)
	}
	l.internet = &network{
		lab: l, ns: ns, bridge: "internet",
		net4: internet4, gateway4: gatewayOf(internet4),
		net6: internet6, gateway6: gatewayOf(internet6),
	}
	if err := l.internet.start(); err != nil {
		return nil, fmt.Errorf("%w: namespaces can't be joined: %w", ErrUnavailable, err)
	}
	return l, nil
}

// Close ends all programs that run in the lab and removes it. It may be called
// more than once.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.err
	}
	l.closed = true
	for _, p := range l.all {
		p.stopEmulating()
	}
	var names []string
	for _, ns := range l.spaces {
		ns.close()
		names = append(names, ns.name)
	}
	if err := removeNamespaces(names...); err != nil && l.err == nil {
		l.err = fmt.Errorf("lab: close: %w", err)
	}
	return l.err
}

// Err returns the first error of a lab that is of no test.
func (l *Lab) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// check fails the test, or keeps the error.
func (l *Lab) check(what string, err error) {
	if err == nil {
		return
	}
	err = fmt.Errorf("lab: %s: %w", what, err)
	l.mu.Lock()
	if l.err == nil {
		l.err = err
	}
	l.mu.Unlock()
	if l.fatal != nil {
		l.fatal(err)
	}
}

// locked runs f with the lock held, unless the lab is closed.
func (l *Lab) locked(f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	return f()
}

var errClosed = fmt.Errorf("the lab is closed: %w", os.ErrClosed)

// space makes a namespace.
func (l *Lab) space() (*namespace, error) {
	ns, err := newNamespace(fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), spaces.Add(1)))
	if err == nil {
		l.spaces = append(l.spaces, ns)
	}
	return ns, err
}

// The Internet's addresses, and those of the networks behind routers. Programs
// must take the first for public, which the ranges for documentation aren't.
var (
	internet4 = netip.MustParsePrefix("5.0.0.0/8")
	internet6 = netip.MustParsePrefix("2a00:db::/32")
	private4  = netip.MustParseAddr("10.0.0.0")
	carrier4  = netip.MustParseAddr("100.64.0.0")
	routed4   = netip.MustParseAddr("45.0.0.0") // behind a router of kind None
	routed6   = netip.MustParseAddr("2a01:db::")
)

// Everything that is not nearer.
var (
	all4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	all6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// gatewayOf returns the first address of a network.
func gatewayOf(p netip.Prefix) netip.Addr { return p.Addr().Next() }

// public returns the next address of the Internet of each family. Each is in a
// /16 or /48 of its own, as programs may bound what they take from one.
func (l *Lab) public() (netip.Addr, netip.Addr) {
	l.publics++
	n := l.publics
	a4 := internet4.Addr().As4()
	a4[1], a4[2], a4[3] = byte(1+n%250), byte(n/250), 10
	a6 := internet6.Addr().As16()
	a6[4], a6[5], a6[15] = byte(n>>8), byte(n), 0x10
	return netip.AddrFrom4(a4), netip.AddrFrom16(a6)
}

// lanPrefixes returns the networks of the next router.
func (l *Lab) lanPrefixes(nat NAT) (netip.Prefix, netip.Prefix) {
	l.lans++
	n := l.lans
	base := private4
	switch {
	case nat.Kind == None:
		base = routed4
	case nat.Carrier:
		base = carrier4
	}
	a4 := base.As4()
	a4[1] += byte(n >> 8)
	a4[2] = byte(n)
	a6 := routed6.As16()
	a6[4], a6[5] = byte(n>>8), byte(n)
	return netip.PrefixFrom(netip.AddrFrom4(a4), 24), netip.PrefixFrom(netip.AddrFrom16(a6), 64)
}
