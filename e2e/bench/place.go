package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// A place is a machine that processes of a way run on: a host of a laboratory, or
// this machine if that is nil.
type place struct{ host *lab.Host }

// command returns a program to be run there.
func (p place) command(name string, args ...string) *exec.Cmd {
	if p.host == nil {
		return exec.Command(name, args...)
	}
	return p.host.Command(context.Background(), name, args...)
}

// do runs f there.
func (p place) do(f func() error) error {
	if p.host == nil {
		return f()
	}
	return p.host.Do(f)
}

// ip returns the address at which processes there are reached.
func (p place) ip() string {
	if p.host == nil {
		return "127.0.0.1"
	}
	return p.host.Addr().String()
}

// freeAddr returns an address there at which nothing listens, for programs that
// must be told where to listen.
func (p place) freeAddr() (addr string, err error) {
	err = p.do(func() error {
		ln, err := net.Listen("tcp", net.JoinHostPort(p.ip(), "0"))
		if err != nil {
			return err
		}
		defer ln.Close()
		addr = ln.Addr().String()
		return nil
	})
	return addr, err
}

// places are where a way's client is, near, and its server, far, each with what of
// the way is beside it.
type places struct{ near, far place }

// apart tells whether they are two machines.
func (p places) apart() bool { return p.near.host != p.far.host }

// openPlaces returns this machine twice, or makes two. The function returned must be
// called at the end.
func openPlaces(ctx context.Context, apart bool) (places, func(), error) {
	if !apart {
		return places{}, func() {}, nil
	}
	l, err := lab.Open(ctx)
	if err != nil {
		return places{}, nil, err
	}
	at := places{place{l.Host("near")}, place{l.Host("far")}}
	err = l.Err()
	if err == nil {
		err = errors.Join(at.near.recyclePorts(), at.far.recyclePorts())
	}
	if err != nil {
		l.Close()
		return places{}, nil, err
	}
	return at, func() { l.Close() }, nil
}

// recyclePorts has a host give the port of an ended connection to another after a
// second, as this machine does at its loopback address. Otherwise the thousands of
// connections that are counted would soon have used all the ports there are, and what
// was measured would be the kernel's search for the last.
func (p place) recyclePorts() error {
	return p.do(func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("10000 65000"), 0),
		)
	})
}
