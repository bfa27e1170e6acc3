package p2p_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/p2pnode/p2pnode/p2p"
)

// Two nodes, and a stream from one to the other.
func Example() {
	ctx := context.Background()
	alice, err := p2p.New(p2p.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	bob, err := p2p.New(p2p.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()

	listener, err := alice.Listen("/upper/1")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		stream, err := listener.AcceptStream()
		if err != nil {
			return
		}
		defer stream.Close()
		name, _ := bufio.NewReader(stream).ReadString('\n')
		fmt.Fprintf(stream, "hello %s", name)
	}()

	if err := bob.Connect(ctx, alice.ID(), alice.Addrs()...); err != nil {
		log.Fatal(err)
	}
	stream, err := bob.Dial(ctx, alice.ID(), "/upper/1")
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	fmt.Fprintln(stream, "bob")
	answer, err := io.ReadAll(stream)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s(by the path %v)\n", answer, stream.Path())
	// Output:
	// hello bob
	// (by the path lan)
}

// A guest list is an Admission that goes by peer ID alone, which is proven
// before it is asked.
type guestList struct{ invited sync.Map }

// Refusals below 16 have a meaning already.
const notInvited p2p.Refusal = 16

func (l *guestList) Invite(id peer.ID) { l.invited.Store(id, true) }

func (*guestList) Proof(peer.ID) []byte { return nil }

func (l *guestList) Check(remote peer.ID, _ []byte) error {
	if _, ok := l.invited.Load(remote); !ok {
		return notInvited
	}
	return nil
}

func ExampleAdmission() {
	ctx := context.Background()
	var guests, hosts guestList
	host, err := p2p.New(p2p.Config{Admission: &guests})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	hosts.Invite(host.ID())
	guest, err := p2p.New(p2p.Config{Admission: &hosts})
	if err != nil {
		log.Fatal(err)
	}
	defer guest.Close()

	err = guest.Connect(ctx, host.ID(), host.Addrs()...)
	var refused *p2p.RefusedError
	if errors.As(err, &refused) {
		fmt.Println("not invited:", errors.Is(err, notInvited))
	}
	guests.Invite(guest.ID())
	if err := guest.Connect(ctx, host.ID()); err != nil {
		log.Fatal(err)
	}
	fmt.Println("connected:", len(guest.Connections()))
	// Output:
	// not invited: true
	// connected: 1
}

// What takes a net.Listener and a net.Conn works over streams, such as HTTP.
func ExampleNode_Listen() {
	server, err := p2p.New(p2p.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	listener, err := server.Listen("/http/1.1")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "a page for %s", r.URL.Path)
	}))

	browser, err := p2p.New(p2p.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer browser.Close()
	if err := browser.Connect(context.Background(), server.ID(), server.Addrs()...); err != nil {
		log.Fatal(err)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return browser.Dial(ctx, server.ID(), "/http/1.1")
		},
	}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("http://server/index")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(page))
	// Output: a page for /index
}

// A node that comes back has the same name.
func ExampleLoadKey() {
	dir, err := os.MkdirTemp("", "p2p")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	open := func() (ed25519.PrivateKey, error) {
		path := filepath.Join(dir, "key")
		key, err := p2p.LoadKey(path)
		if errors.Is(err, os.ErrNotExist) {
			return p2p.CreateKey(path)
		}
		return key, err
	}

	first, err := open()
	if err != nil {
		log.Fatal(err)
	}
	second, err := open()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the same key:", first.Equal(second))
	// Output: the same key: true
}

// A watcher sees the connections as they are and, after a change, as they are
// then.
func ExampleNode_Watch() {
	node, err := p2p.New(p2p.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	other, err := p2p.New(p2p.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close()

	for connections := range node.Watch(context.Background()) {
		fmt.Println("connections:", len(connections))
		if len(connections) > 0 {
			break
		}
		if err := other.Connect(context.Background(), node.ID(), node.Addrs()...); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// connections: 0
	// connections: 1
}

// A dial that fails tells of every address that was tried.
func ExampleDialError() {
	node, err := p2p.New(p2p.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	gone, err := p2p.New(p2p.Config{Listen: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0")}})
	if err != nil {
		log.Fatal(err)
	}
	addrs := gone.Addrs()
	gone.Close()

	err = node.Connect(context.Background(), gone.ID(), addrs...)
	var dial *p2p.DialError
	if errors.As(err, &dial) {
		for _, a := range dial.Attempts {
			fmt.Println(a.Addr.Equal(addrs[0]), a.Path, a.Err)
		}
	}
	// Output: true lan connect: connection refused
}

// Half of a stream can be closed by itself: the end of a question is not the
// end of the conversation.
func ExampleStream_CloseWrite() {
	node, err := p2p.New(p2p.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	listener, err := node.Listen("/count/1")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		stream, err := listener.AcceptStream()
		if err != nil {
			return
		}
		defer stream.Close()
		question, err := io.ReadAll(stream)
		if err != nil {
			return
		}
		fmt.Fprintf(stream, "%d bytes", len(question))
	}()

	stream, err := node.Dial(context.Background(), node.ID(), "/count/1") // a node reaches itself too
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	io.WriteString(stream, "how long is this?")
	stream.CloseWrite()
	answer, err := io.ReadAll(stream)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(answer))
	// Output: 17 bytes
}
