package lab_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// A program that is no test has a lab too, as root.
func Example() {
	ctx := context.Background()
	l, err := lab.Open(ctx)
	if err != nil {
		log.Fatal(err) // lab.ErrUnavailable, where there can be none
	}
	defer l.Close()

	alice := l.Host("alice")
	home := l.Router("home", lab.NAT{Kind: lab.PortRestricted})
	bob := home.Host("bob")
	bob.SetLink(lab.Link{Delay: 25 * time.Millisecond, Loss: 0.01})
	if err := l.Verify(ctx); err != nil {
		log.Fatal(err)
	}

	out, err := bob.Command(ctx, "ping", "-c", "3", alice.Addr().String()).CombinedOutput()
	fmt.Printf("%s%v\n", out, err)

	var ln net.Listener
	err = alice.Do(func() (err error) {
		ln, err = net.Listen("tcp", "[::]:4001")
		return err
	})
	fmt.Println(ln.Addr(), err)

	home.Reboot() // bob's connections are lost
	l.Cut(alice, bob)
	bob.MoveTo(nil) // to the Internet
	if err := l.Err(); err != nil {
		log.Fatal(err)
	}
}

// What a link does can be different each way, and change while it is in use.
func ExampleHost_SetLinks() {
	l, err := lab.Open(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	dsl := l.Host("dsl")
	dsl.SetLinks(
		lab.Link{Delay: 15 * time.Millisecond, Rate: 10_000_000},
		lab.Link{Delay: 15 * time.Millisecond, Rate: 50_000_000},
	)
	dsl.SetLink(lab.Link{Burst: lab.Burst{Enter: 0.01, Leave: 0.2}})
	dsl.SetLink(lab.Link{}) // a wire again
}
