package p2ptest_test

import (
	"errors"
	"testing"

	"github.com/p2pnode/p2pnode/p2p"
	"github.com/p2pnode/p2pnode/p2p/p2ptest"
)

// The test of a program that has to notice that its peer has gone.
func testGone(t *testing.T) {
	nodes := p2ptest.New(t, 2)
	p2ptest.Connect(t, nodes...)
	p2ptest.Echo(t, nodes[1], "/echo/1")

	stream, err := nodes[0].Dial(p2ptest.Context(t), nodes[1].ID(), "/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	p2ptest.Cut(t, nodes[0], nodes[1])
	if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, p2p.ErrReset) {
		t.Errorf("Read = %v, want %v", err, p2p.ErrReset)
	}
}

// An example of a test has to be one, so this runs as part of TestExample.
func Example() {
	var t *testing.T // the test's
	testGone(t)
}
