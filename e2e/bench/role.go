package main

import (
	"fmt"
	"io"
	"net"
)

// roleArg is the first argument that makes this program one of the processes
// that it measures.
const roleArg = "bench-role"

// A self is what a process in a role is given besides arguments.
type self struct {
	ip  string    // where the others reach this process
	in  io.Reader // ends when the process is to
	out io.Writer // is read by who started it
}

// roles are what a process can be. A role prints the address at which it can be
// reached, if it can, and returns when its input ends; the process then exits, and
// its connections with it.
var roles = map[string]func(s self, args []string) error{
	"client":       clientRole,
	"server":       serverRole,
	"splice":       spliceRole,
	"tls-entry":    tlsEntryRole,
	"tls-exit":     tlsExitRole,
	"libp2p-entry": libp2pEntryRole,
	"libp2p-exit":  libp2pExitRole,
}

func isRole(args []string) bool {
	return len(args) > 3 && args[1] == roleArg
}

// runRole runs the role that args name, after the IP address of the process, and
// returns the exit code.
func runRole(args []string, in io.Reader, out, stderr io.Writer) int {
	role, ok := roles[args[1]]
	if !ok {
		fmt.Fprintf(stderr, "no role %q\n", args[1])
		return exitUsage
	}
	if err := role(self{args[0], in, out}, args[2:]); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", args[1], err)
		return exitFault
	}
	return exitDone
}

// serveTCP listens on a free port, prints where, and gives each connection to
// handle and then closes it, until the process is to end.
func (s self) serveTCP(handle func(*net.TCPConn)) error {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(s.ip)})
	if err != nil {
		return err
	}
	defer ln.Close()
	fmt.Fprintln(s.out, ln.Addr())
	go accept(ln, handle)
	return s.untilEnd()
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

func (s self) untilEnd() error {
	_, err := io.Copy(io.Discard, s.in)
	return err
}

func dialTCP(addr string) (*net.TCPConn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}
