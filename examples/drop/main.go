// Drop shows files for a member, by name: the end of a stream says that all has come.
//
//	go run ./examples/drop
//	go run ./examples/drop INVITE < FILE
//
// The first line founds a mesh, prints the second, and keeps what comes where it is.
package main

import (
	"context"
	"errors"
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
	run := receive
	if len(os.Args) > 1 {
		run = send
	}
	if err := run(ctx); err != nil && ctx.Err() == nil {
		log.Fatalf("drop: %v", err)
	}
}

// receive founds a mesh and takes files in it until ctx ends.
func receive(ctx context.Context) error {
	mesh, err := overlay.Open(ctx, overlay.Config{Name: "alice"})
	if err != nil {
		return err
	}
	defer mesh.Close()
	listener, err := mesh.Listen("drop")
	if err != nil {
		return err
	}
	invite, err := mesh.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("In a second terminal, type\n\ngo run ./examples/drop %s < FILE\n\n", invite.Text())
	context.AfterFunc(ctx, func() { listener.Close() })
	for {
		conn, err := listener.AcceptConn()
		if err != nil {
			return err // that the listener is closed, when ctx has ended
		}
		go func() {
			defer conn.Close()
			if err := keep(conn); err != nil {
				fmt.Printf("not kept: from %s: %v\n", conn.Peer().Name, err)
				conn.Reset() // has the sender's program fail
			}
		}()
	}
}

// keep writes what a stream brings into a file of its own.
func keep(conn *overlay.Conn) error {
	file, err := os.CreateTemp(".", conn.Peer().Name+"-*")
	if err != nil {
		return err
	}
	defer file.Close()
	n, err := io.Copy(file, conn)
	if err != nil { // what has come is not all of it
		return errors.Join(err, os.Remove(file.Name()))
	}
	fmt.Printf("%s: %d bytes, path %v\n", file.Name(), n, conn.Path())
	fmt.Fprintf(conn, "%d bytes kept\n", n)
	return nil
}

// send joins the mesh and sends standard input.
func send(ctx context.Context) error {
	mesh, err := overlay.Join(ctx, os.Args[1], overlay.Config{})
	if err != nil {
		return err
	}
	defer mesh.Close()
	context.AfterFunc(ctx, func() { mesh.Close(); os.Exit(0) }) // reading can't be interrupted
	conn, err := mesh.Dial(ctx, "alice/drop")
	if err != nil {
		return err
	}
	if _, err := io.Copy(conn, os.Stdin); err != nil {
		return err
	}
	_ = conn.CloseWrite() // or the read below fails
	_, err = io.Copy(os.Stdout, conn)
	return err
}
