//go:build linux || darwin

package unixsock_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pnode/p2pnode/p2p/unixsock"
)

// Two that know one secret find each other, as two processes do.
func ExampleDirectory() {
	ctx := context.Background()
	tmp, err := os.MkdirTemp("/tmp", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	path, secret := filepath.Join(tmp, "sockets"), []byte("what all of the mesh know")
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	alice, err := peer.IDFromPrivateKey(key)
	if err != nil {
		log.Fatal(err)
	}

	hers, err := unixsock.OpenDirectory(path, secret, unixsock.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer hers.Close()
	his, err := unixsock.OpenDirectory(path, secret, unixsock.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer his.Close()

	_, err = his.Dial(ctx, alice)
	fmt.Println("not here yet:", errors.Is(err, unixsock.ErrNotHere))
	changed := his.Changed()
	socket, err := hers.Listen(alice)
	if err != nil {
		log.Fatal(err)
	}
	<-changed
	go func() {
		conn, err := socket.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "hello")
	}()
	conn, err := his.Dial(ctx, alice)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	word, err := io.ReadAll(conn)
	fmt.Println(string(word), err)
	// Output:
	// not here yet: true
	// hello <nil>
}
