// Grpc shows a gRPC server and client that meet in the mesh: calls and streams as
// over any network, with no address and no certificate, as the mesh has seen to who
// is at the other end.
//
//	go run ./examples/grpc
//	go run ./examples/grpc INVITE
//
// The first line founds a mesh and prints the second with its invite, which asks
// the first for its health, and watches it until that is gone. Ctrl-C ends the first.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"

	"github.com/p2pnode/p2pnode/overlay"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := serve
	if len(os.Args) > 1 {
		run = watch
	}
	if err := run(ctx); err != nil && ctx.Err() == nil {
		log.Fatalf("grpc: %v", err)
	}
}

// serve founds a mesh and answers calls in it until ctx ends.
func serve(ctx context.Context) error {
	mesh, err := overlay.Open(ctx, overlay.Config{Name: "alice"})
	if err != nil {
		return err
	}
	defer mesh.Close()
	listener, err := mesh.Listen("grpc")
	if err != nil {
		return err
	}
	invite, err := mesh.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("In a second terminal, type\n\ngo run ./examples/grpc %s\n\n", invite.Text())
	server, state := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	context.AfterFunc(ctx, func() {
		state.Shutdown() // tells those who watch
		server.Stop()
	})
	return server.Serve(listener)
}

// watch joins the mesh, and calls the server as any other.
func watch(ctx context.Context) error {
	mesh, err := overlay.Join(ctx, os.Args[1], overlay.Config{})
	if err != nil {
		return err
	}
	defer mesh.Close()
	// The name is for the mesh to resolve, and what goes over it is secret as it is.
	conn, err := grpc.NewClient("passthrough:///grpc.alice.mesh:443",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return mesh.DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	fmt.Println("called:", answer.Status)
	stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	for {
		news, err := stream.Recv()
		if err != nil {
			fmt.Println("gone")
			return nil
		}
		fmt.Println("watched:", news.Status)
	}
}
