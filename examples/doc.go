// Package examples holds programs to copy from, each in one file of at most
// 100 lines and on the public API alone:
//
//   - echo: a service, and a stream to it by name
//   - chat: who is in the mesh, and a stream to each of them
//   - http: a web server and a web client that meet in the mesh
//   - grpc: a gRPC server and a gRPC client
//   - redis: a database behind one member, used by the usual client at another
//   - drop: files for a member
//   - worker: jobs for whichever members offer to work
//
// All are started alike. Without an argument a program founds a mesh and prints
// the line that joins it, to be typed in a second terminal or on a second
// machine; Ctrl-C ends it.
//
//	go run ./examples/echo
//
// Their nodes are ephemeral: with a Dir in its overlay.Config a program comes
// back as the member that it was.
package examples
