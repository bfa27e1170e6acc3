package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

// What can't be done is refused with what is wrong and what to do, and what ran before
// goes on.
func TestRefused(t *testing.T) {
	alice := newNode(t, "alice").up()
	alice.run("expose", "web", serveGreeting(t, "hello"))
	bob := newNode(t, "bob").join(alice.invite())
	forward := bob.forward("alice/web")
	open := dialTCP(t, forward) // before all of it
	long := strings.Repeat("n", 300)
	for _, tt := range []struct {
		name string
		at   *node
		args []string
		want string // in what it says
	}{
		{"a port in use", bob, []string{"forward", forward, "alice/web"}, forward},
		{"a port in use by another program", bob, []string{"forward", serveGreeting(t, "other"), "alice/web"}, "address already in use"},
		{"a port that is none", bob, []string{"forward", "65536", "alice/web"}, "65536"},
		{"a service with spaces", alice, []string{"expose", "my web", "3000"}, `"my web"`},
		{"a service of 300 letters", alice, []string{"expose", long, "3000"}, "nnnn"},
		{"a service that is there", alice, []string{"expose", "web", "3000"}, "web"},
		{"a target with spaces", bob, []string{"forward", "0", "alice/my web"}, "my web"},
		{"a target of 300 letters", bob, []string{"forward", "0", "alice/" + long}, "306 characters, more than 256"},
		{"a target that is none", alice, []string{"expose", "other", "nowhere"}, "nowhere"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := tt.at.try(tt.args...)
			if err == nil {
				t.Fatalf("p2pnode %v = %q, want an error", tt.args, out)
			}
			_, said, _ := strings.Cut(err.Error(), "exit status")
			if !strings.Contains(said, tt.want) {
				t.Errorf("it says %q, want %q in it", said, tt.want)
			}
			if len(said) > 1000 {
				t.Errorf("it says %d bytes, want less", len(said))
			}
			if err := bob.greet(testContext(t), "alice/web", "hello"); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
	if _, err := io.WriteString(open, "bob"); err != nil {
		t.Fatal(err)
	}
	if err := open.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(open); err != nil || string(got) != "hello bob" {
		t.Errorf("what was open before got %q, %v, want %q", got, err, "hello bob")
	}
}

// A target that refuses, hangs or vanishes harms its own connections only, and its node
// says why.
func TestBadTargets(t *testing.T) {
	alice := newNode(t, "alice").up()
	alice.run("expose", "web", serveGreeting(t, "hello"))
	bob := newNode(t, "bob").join(alice.invite())
	var vanishing net.Conn
	accepted := make(chan struct{})
	for _, tt := range []struct {
		name   string
		target string
		meet   func(t *testing.T, c *net.TCPConn) error // what comes of a connection
		want   error
		reason string // in alice's status; empty means nothing is wrong
	}{
		{"refuses", freePort(t), func(_ *testing.T, c *net.TCPConn) error { return readByte(c) }, syscall.ECONNRESET, "connection refused"},
		{"hangs", serve(t, func(*net.TCPConn) { <-t.Context().Done() }), func(t *testing.T, c *net.TCPConn) error {
			return bob.greet(testContext(t), "alice/web", "hello")
		}, nil, ""},
		{"vanishes", serve(t, func(c *net.TCPConn) {
			vanishing = c
			close(accepted)
			<-t.Context().Done()
		}), func(t *testing.T, c *net.TCPConn) error {
			<-accepted
			if err := errors.Join(vanishing.(*net.TCPConn).SetLinger(0), vanishing.Close()); err != nil {
				t.Error(err)
			}
			return readByte(c)
		}, syscall.ECONNRESET, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			service := fmt.Sprint("bad-", tt.name)
			alice.run("expose", service, tt.target)
			c, err := net.Dial("tcp", bob.forward("alice/"+service))
			if err == nil {
				defer c.Close()
				err = tt.meet(t, c.(*net.TCPConn))
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("a connection ended with %v, want %v", err, tt.want)
			}
			if status := alice.run("status", "--json"); !strings.Contains(status, tt.reason) {
				t.Errorf("status = %s, want %q in it", status, tt.reason)
			}
			if err := bob.greet(testContext(t), "alice/web", "hello"); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}
