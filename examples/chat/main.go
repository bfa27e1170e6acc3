// Chat shows who is in the mesh, and a stream to each: what is typed in one
// terminal appears in all others.
//
//	go run ./examples/chat -name alice
//	go run ./examples/chat -name bob INVITE
//
// The first line founds a mesh and prints the second with its invite, by which
// any number can join. Ctrl-C or Ctrl-D ends each; the others chat on.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
)

func main() {
	log.SetFlags(0)
	name := flag.String("name", "", "what the others see (default: made of the host's name)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	mesh, err := enter(ctx, flag.Arg(0), overlay.Config{Name: *name})
	if err != nil {
		log.Fatalf("chat: %v", err)
	}
	defer mesh.Close()
	listener, err := mesh.Listen("chat")
	if err != nil {
		log.Fatalf("chat: %v", err)
	}
	if invite, err := mesh.Invite(overlay.InviteOptions{}); err == nil { // else not an admin
		fmt.Printf("In a second terminal, type\n\ngo run ./examples/chat -name bob %s\n\n", invite.Text())
	}
	go hear(listener)
	go say(ctx, stop, mesh)
	here := ""
	for members := range mesh.Watch(ctx) { // until interrupted or stopped
		now := "* here:"
		for _, m := range members {
			if m.Up {
				now += " " + m.Name
			}
		}
		if now != here {
			fmt.Println(now)
		}
		here = now
	}
}

// enter joins the mesh of the invite, or founds one if there is none.
func enter(ctx context.Context, invite string, c overlay.Config) (*overlay.Mesh, error) {
	if invite == "" {
		return overlay.Open(ctx, c)
	}
	return overlay.Join(ctx, invite, c)
}

// say sends each line of the input to all others, each on a stream of its own.
// Nobody waits for it, since reading can't be interrupted.
func say(ctx context.Context, stop func(), mesh *overlay.Mesh) {
	defer stop()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		for _, m := range mesh.Members() {
			if m.Self || !m.Up {
				continue
			}
			conn, err := mesh.Dial(ctx, m.ID.String()+"/chat")
			if err == nil {
				_, err = fmt.Fprintln(conn, in.Text())
				conn.Close()
			}
			if err != nil {
				fmt.Printf("* %s did not get it: %v\n", m.Name, err)
			}
		}
	}
}

// hear shows what the others send, one line after another.
func hear(listener *overlay.Listener) {
	for conn, err := listener.AcceptConn(); err == nil; conn, err = listener.AcceptConn() {
		conn.SetReadDeadline(time.Now().Add(time.Second))
		if in := bufio.NewScanner(conn); in.Scan() {
			fmt.Printf("%s: %s\n", conn.Peer().Name, in.Text())
		}
		conn.Close()
	}
}
