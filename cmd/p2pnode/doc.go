// Command p2pnode runs a node of a private mesh and talks to it.
//
//	p2pnode up                       found a mesh, or come back to it; prints the line for the next machine
//	p2pnode join INVITE              join it from there
//	p2pnode expose web 3000          offer what listens at port 3000 to the mesh
//	p2pnode forward 8080 alice/web   reach it at port 8080 of this machine
//
// up and join run in the foreground until interrupted. The other commands talk
// to the node that runs on the same directory, over a socket that only its
// owner can reach.
//
// Standard output has the answer and standard error the rest. The exit status
// is 0 when it is done, 1 when it failed, 2 when the request made no sense.
package main
