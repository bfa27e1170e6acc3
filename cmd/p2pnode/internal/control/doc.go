// Package control is how the p2pnode command talks to a running node: HTTP
// and JSON over a unix socket in the node's directory, which only its owner
// can reach.
//
//	client, err := control.Open(dir)
//	if err != nil {
//		return err // control.ErrNotRunning, if no node runs there
//	}
//	status, err := client.Status(ctx)
//
// A stream to a service is a POST that is upgraded to [Protocol], after which
// the connection carries the stream's bytes in chunks: see [Conn].
package control
