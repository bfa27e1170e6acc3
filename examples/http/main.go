// Http shows a web server and a web client that meet in the mesh: net/http on
// both sides, no port, and a server that knows who is asking.
//
//	go run ./examples/http
//	go run ./examples/http INVITE
//
// The first line founds a mesh and prints the second with its invite, which
// gets a page from the first and ends. Ctrl-C ends the first.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := serve
	if len(os.Args) > 1 {
		run = get
	}
	if err := run(ctx); err != nil && ctx.Err() == nil {
		log.Fatalf("http: %v", err)
	}
}

// serve founds a mesh and serves pages in it until ctx ends.
func serve(ctx context.Context) error {
	mesh, err := overlay.Open(ctx, overlay.Config{Name: "alice"})
	if err != nil {
		return err
	}
	defer mesh.Close()
	listener, err := mesh.Listen("web")
	if err != nil {
		return err
	}
	invite, err := mesh.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("In a second terminal, type\n\ngo run ./examples/http %s\n\n", invite.Text())
	server := http.Server{
		Handler:           http.HandlerFunc(greet),
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	context.AfterFunc(ctx, func() { server.Close() })
	return server.Serve(listener) // always an error: that it is closed, when ctx has ended
}

// connKey is where a request's context has its connection.
type connKey struct{}

// greet answers with the name that the credential of who asks gives it.
func greet(w http.ResponseWriter, r *http.Request) {
	conn := r.Context().Value(connKey{}).(*overlay.Conn)
	fmt.Printf("%s %s for %s, path %v\n", r.Method, r.URL.Path, conn.Peer().Name, conn.Path())
	fmt.Fprintf(w, "Hello %s, this is %s.\n", conn.Peer().Name, r.Host)
}

// get joins the mesh, and gets a page as from any other web server.
func get(ctx context.Context) error {
	mesh, err := overlay.Join(ctx, os.Args[1], overlay.Config{})
	if err != nil {
		return err
	}
	defer mesh.Close()
	client := http.Client{Transport: &http.Transport{DialContext: mesh.DialContext}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://web.alice.mesh/", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}
