// Echo shows a service, and a stream to it by name: what is typed in the second
// terminal goes to the first and comes back.
//
//	go run ./examples/echo
//	go run ./examples/echo INVITE
//
// The first line founds a mesh and prints the second with its invite. Ctrl-C
// ends either, and so does the end of the input (Ctrl-D) the second.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"

	"github.com/p2pnode/p2pnode/overlay"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := serve
	if len(os.Args) > 1 {
		run = call
	}
	if err := run(ctx); err != nil && ctx.Err() == nil {
		log.Fatalf("echo: %v", err)
	}
}

// serve founds a mesh and offers the service in it until ctx ends.
func serve(ctx context.Context) error {
	mesh, err := overlay.Open(ctx, overlay.Config{Name: "alice"})
	if err != nil {
		return err
	}
	defer mesh.Close()
	listener, err := mesh.Listen("echo")
	if err != nil {
		return err
	}
	invite, err := mesh.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("In a second terminal, type\n\ngo run ./examples/echo %s\n\n", invite.Text())
	context.AfterFunc(ctx, func() { listener.Close() })
	for {
		conn, err := listener.AcceptConn()
		if err != nil {
			return err // that the listener is closed, when ctx has ended
		}
		go echo(conn) // until the far end is done, or the mesh is closed
	}
}

func echo(conn *overlay.Conn) {
	defer conn.Close()
	n, err := io.Copy(conn, conn)
	if err != nil {
		conn.Reset() // or the far end would take what it got for all
		return
	}
	fmt.Printf("%d bytes echoed to %s, path %v\n", n, conn.Peer().Name, conn.Path())
}

// call joins the mesh and ties its echo to standard input and output.
func call(ctx context.Context) error {
	mesh, err := overlay.Join(ctx, os.Args[1], overlay.Config{})
	if err != nil {
		return err
	}
	defer mesh.Close()
	conn, err := mesh.Dial(ctx, "alice/echo")
	if err != nil {
		return err
	}
	defer conn.Close()
	context.AfterFunc(ctx, func() { conn.Reset() })
	go send(conn)
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// send sends standard input, and that it ended.
func send(conn *overlay.Conn) {
	_, err := io.Copy(conn, os.Stdin)
	if err == nil {
		err = conn.CloseWrite()
	}
	if err != nil {
		conn.Reset()
	}
}
