// Worker shows members that are found through the DHT by the service they offer:
// jobs go to whichever of them is free, and none is known by name.
//
//	go run ./examples/worker
//	go run ./examples/worker INVITE
//
// The first line founds a mesh, prints the second with its invite, and ends when
// all jobs are done. The second works until Ctrl-C, in any number of terminals.
package main

import (
	"context"
	"fmt"
	"log"
	"math/big"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := coordinate
	if len(os.Args) > 1 {
		run = work
	}
	if err := run(ctx); err != nil && ctx.Err() == nil {
		log.Fatalf("worker: %v", err)
	}
}

// coordinate founds a mesh and has jobs done in it: the digits of factorials.
func coordinate(ctx context.Context) error {
	mesh, err := overlay.Open(ctx, overlay.Config{Name: "boss"})
	if err != nil {
		return err
	}
	defer mesh.Close()
	context.AfterFunc(ctx, func() { mesh.Close() })
	invite, err := mesh.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("In a second terminal, type\n\ngo run ./examples/worker %s\n\n", invite.Text())
	var jobs sync.WaitGroup
	for i := range 20 {
		jobs.Go(func() { delegate(ctx, mesh, 100_000+i) })
	}
	jobs.Wait()
	return nil
}

// delegate has the digits of n! counted by whoever offers to work.
func delegate(ctx context.Context, mesh *overlay.Mesh, n int) {
	for digits := 0; digits == 0 && ctx.Err() == nil; {
		conn, err := mesh.Dial(ctx, "/work")
		if err != nil {
			time.Sleep(200 * time.Millisecond) // until somebody is free
			continue
		}
		fmt.Fprintln(conn, n)
		if _, err := fmt.Fscanln(conn, &digits); err == nil {
			fmt.Printf("%d! has %d digits, says %s\n", n, digits, conn.Peer().Name)
		}
		conn.Close()
	}
}

// work joins the mesh and does one job after another.
func work(ctx context.Context) error {
	mesh, err := overlay.Join(ctx, os.Args[1], overlay.Config{})
	if err != nil {
		return err
	}
	defer mesh.Close()
	context.AfterFunc(ctx, func() { mesh.Close() })
	for {
		listener, err := mesh.Listen("work")
		if err != nil {
			return err
		}
		conn, err := listener.AcceptConn()
		listener.Close() // who dials during the job finds another
		if err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(time.Second))
		var n int
		if _, err := fmt.Fscanln(conn, &n); err == nil {
			fmt.Printf("counting the digits of %d! for %s\n", n, conn.Peer().Name)
			fmt.Fprintln(conn, len(new(big.Int).MulRange(1, int64(n)).String()))
		}
		conn.Close()
	}
}
