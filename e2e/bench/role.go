package main

import (
	"fmt"
	"io"
	"net"
)

// roleArg is the first argument that makes this program one of the processes
// that it measures.
const roleArg = "bench-role"

// roles are what a process can be. A role prints the address at which it can be
// reached, if it can, and returns when in ends; the process then exits, and its
// connections with it.
var roles = map[string]func(args []string, in io.Reader, out io.Writer) error{
	"client":       clientRole,
	"server":       serverRole,
	"splice":       spliceRole,
	"tls-entry":    tlsEntryRole,
	"tls-exit":     tlsExitRole,
	"libp2p-entry": libp2pEntryRole,
	"libp2p-exit":  libp2pExitRole,
}

func isRole(args []string) bool {
	return len(args) > 2 && args[1] == roleArg
}

// runRole runs the role that args name and returns the exit code.
func runRole(args []string, in io.Reader, out, stderr io.Writer) int {
	role, ok := roles[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "no role %q\n", args[0])
		return exitUsage
	}
	if err := role(args[1:], in, out); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", args[0], err)
		return exitFault
	}
	return exitDone
}

// serveTCP listens on a free port of loopback, prints where, and gives each
// connection to handle, which closes it, until in ends.
func serveTCP(in io.Reader, out io.Writer, handle func(*net.TCPConn)) error {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer ln.Close()
	fmt.Fprintln(out, ln.Addr())
	go accept(ln, handle)
	return untilEnd(in)
}

func accept(ln *net.TCPListener, handle func(*net.TCPConn)) {
	for {
		conn, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			handle(conn)
		}()
	}
}

func untilEnd(in io.Reader) error {
	_, err := io.Copy(io.Discard, in)
	return err
}

func dialTCP(addr string) (*net.TCPConn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// freeAddr returns an address of loopback at which nothing listens, for
// programs that must be told where to listen.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
