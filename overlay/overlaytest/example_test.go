package overlaytest_test

import (
	"io"
	"testing"

	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// greet is a program to be tested: it greets who comes.
func greet(c io.WriteCloser) {
	io.WriteString(c, "hello")
	c.Close()
}

// A test of a program that uses a mesh.
func ExampleNew() {
	test := func(t *testing.T) {
		nodes := overlaytest.New(t, 3)
		listener, err := nodes[0].Listen("greet")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := listener.Accept(); err == nil {
				greet(c)
			}
		}()
		c, err := nodes[2].Dial(t.Context(), "node0/greet")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
			t.Errorf("greet = %q, %v, want hello", got, err)
		}
	}
	_ = test // func TestGreet(t *testing.T) in a program's tests
}

// A test of what happens when a node crashes. It needs a TestMain, which is
//
//	func TestMain(m *testing.M) { overlaytest.Main(m) }
func ExampleProcesses() {
	test := func(t *testing.T) {
		all := overlaytest.Processes(t, 2)
		listener := all[1].Listen("greet")
		go func() {
			if c, err := listener.Accept(); err == nil {
				greet(c)
			}
		}()
		c, err := all[0].Dial(t.Context(), "node1/greet")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all[1].Kill()
		all[1].Restart()
	}
	_ = test
}
