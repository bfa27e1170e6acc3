// Redis shows a database behind one member that programs at others use by their
// usual client, with no port open to any network.
//
//	go run ./examples/redis -at 127.0.0.1:6379
//	go run ./examples/redis INVITE
//
// The first line founds a mesh, offers the Redis server at that address in it, and
// prints the second with its invite, which counts its visits there and ends. Ctrl-C
// ends the first.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/redis/go-redis/v9"
)

func main() {
	log.SetFlags(0)
	at := flag.String("at", "127.0.0.1:6379", "the address of the Redis server, or unix:/PATH")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if flag.NArg() == 0 {
		err = offer(ctx, *at)
	} else {
		err = visit(ctx, flag.Arg(0))
	}
	if err != nil && ctx.Err() == nil {
		log.Fatalf("redis: %v", err)
	}
}

// offer founds a mesh and offers the server in it until ctx ends.
func offer(ctx context.Context, at string) error {
	target, err := forward.ParseAddress(at)
	if err != nil {
		return err
	}
	mesh, err := overlay.Open(ctx, overlay.Config{Name: "alice"})
	if err != nil {
		return err
	}
	defer mesh.Close()
	listener, err := mesh.Listen("redis")
	if err != nil {
		return err
	}
	expose, err := forward.NewExpose(listener, target, forward.Config{})
	if err != nil {
		return err
	}
	defer expose.Close()
	invite, err := mesh.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("In a second terminal, type\n\ngo run ./examples/redis %s\n\n", invite.Text())
	<-ctx.Done()
	return nil
}

// visit joins the mesh, and uses the server as any other.
func visit(ctx context.Context, invite string) error {
	mesh, err := overlay.Join(ctx, invite, overlay.Config{})
	if err != nil {
		return err
	}
	defer mesh.Close()
	client := redis.NewClient(&redis.Options{Addr: "redis.alice.mesh:6379", Dialer: mesh.DialContext})
	defer client.Close()
	visits, err := client.Incr(ctx, "visits").Result()
	if err != nil {
		return err
	}
	fmt.Printf("visit %d, by %s\n", visits, mesh.Self().Name)
	return nil
}
