// Package p2ptest makes nodes for tests of programs that use package p2p. They
// are real nodes with real sockets, on the loopback interface alone, and the
// end of the test closes them.
//
//	nodes := p2ptest.New(t, 3)
//	p2ptest.Connect(t, nodes...)
//	p2ptest.Echo(t, nodes[1], "/echo/1")
//	stream, err := nodes[0].Dial(ctx, nodes[1].ID(), "/echo/1")
//	...
//	p2ptest.Cut(t, nodes[0], nodes[1]) // stream fails with p2p.ErrReset
//
// A fault is made with what a node offers to everybody: [Cut] breaks the
// connections of two nodes, and a [Wall] keeps a node from having new ones with
// those behind it. Nothing here sleeps: what takes time is waited for by [Until].
package p2ptest
