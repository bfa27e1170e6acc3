package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// Alice founds a mesh and offers a service, Bob joins by her invite and uses it.
func Example() {
	ctx := context.Background()
	alice, err := overlay.Open(ctx, overlay.Config{Name: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	listener, err := alice.Listen("greet")
	if err != nil {
		log.Fatal(err)
	}
	invite, err := alice.Invite(overlay.InviteOptions{})
	if err != nil {
		log.Fatal(err)
	}
	bob, err := overlay.Join(ctx, invite.Text(), overlay.Config{Name: "bob"})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()

	go func() {
		conn, err := listener.AcceptConn()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "hello %s", conn.Peer().Name)
	}()
	conn, err := bob.Dial(ctx, "alice/greet")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	greeting, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(greeting))
	// Output: hello bob
}

// A web server over a mesh, and a client that knows it by host name.
func ExampleMesh_DialContext() {
	mesh, err := overlay.Open(context.Background(), overlay.Config{Name: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
	listener, err := mesh.Listen("web")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s at %s", r.URL.Path, r.Host)
	})}
	go server.Serve(listener)
	defer server.Close()

	transport := &http.Transport{DialContext: mesh.DialContext}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	response, err := client.Get("http://web.alice.mesh/index")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body))
	// Output: /index at web.alice.mesh
}

// Watch tells who is there, now and after each change.
func ExampleMesh_Watch() {
	ctx := context.Background()
	alice, err := overlay.Open(ctx, overlay.Config{Name: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	invite, err := alice.Invite(overlay.InviteOptions{Name: "bob"})
	if err != nil {
		log.Fatal(err)
	}
	bob, err := overlay.Join(ctx, invite.Text(), overlay.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()
	for members := range alice.Watch(ctx) {
		if len(members) < 2 || !members[1].Up {
			continue
		}
		for _, m := range members {
			fmt.Println(m.Name, m.Roles)
		}
		break
	}
	// Output:
	// alice member,admin,relay
	// bob member,relay
}

func ExampleParseTarget() {
	for _, s := range []string{"alice/web", "/web", "alice"} {
		t, err := overlay.ParseTarget(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("member %q, service %q\n", t.Member, t.Service)
	}
	// Output:
	// member "alice", service "web"
	// member "", service "web"
	// not a target: "alice": want MEMBER/SERVICE, or /SERVICE for the nearest
}

// A service for those whose name an admin gave, which Bob's invite does, and for
// one of them not any more.
func ExampleListener_SetAccess() {
	ctx := context.Background()
	alice, err := overlay.Open(ctx, overlay.Config{Name: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	listener, err := alice.Listen("db", overlay.NameRule("bob"), overlay.RoleRule(credential.RoleAdmin))
	if err != nil {
		log.Fatal(err)
	}
	invite, err := alice.Invite(overlay.InviteOptions{Name: "bob", Uses: 1})
	if err != nil {
		log.Fatal(err)
	}
	bob, err := overlay.Join(ctx, invite.Text(), overlay.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()

	conn, err := bob.Dial(ctx, "alice/db")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	listener.SetAccess(listener.Access().Without(overlay.NameRule("bob")))
	_, err = bob.Dial(ctx, "alice/db")
	fmt.Println(errors.Is(err, overlay.ErrNotPermitted))
	// Output: true
}

// A member is put out of the mesh, and what it had open ends.
func ExampleMesh_Revoke() {
	ctx := context.Background()
	alice, err := overlay.Open(ctx, overlay.Config{Name: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	invite, err := alice.Invite(overlay.InviteOptions{})
	if err != nil {
		log.Fatal(err)
	}
	bob, err := overlay.Join(ctx, invite.Text(), overlay.Config{Name: "bob"})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()

	if err := alice.Revoke(ctx, "bob", overlay.RevokeOptions{}); err != nil {
		log.Fatal(err)
	}
	<-bob.Done()
	fmt.Println(errors.Is(bob.Err(), credential.ErrRevoked), len(alice.Members()))
	// Output: true 1
}
