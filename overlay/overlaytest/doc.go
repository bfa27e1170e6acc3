// Package overlaytest gives a test a real mesh: [New] in the test's own process,
// [Processes] with a process for each node. Nothing outside this machine is
// contacted, and all is gone when the test ends. The nodes have no port: they meet in
// a directory of sockets. For a test that needs a network there is [Network].
//
//	func TestGreeting(t *testing.T) {
//		nodes := overlaytest.New(t, 3)
//		ln, err := nodes[0].Listen("greet")
//		...
//		conn, err := nodes[2].Dial(t.Context(), "node0/greet")
//		...
//	}
//
// Processes runs the test's own binary again, so a test that uses it has a
// TestMain:
//
//	func TestMain(m *testing.M) { overlaytest.Main(m) }
//
// A process can be killed, and started again on what it kept: see
// [Process.Kill] and [Process.Restart].
package overlaytest
