package durable_test

import (
	"fmt"
	"log"
	"time"

	"github.com/p2pnode/p2pnode/p2p/durable"
)

// Two ends, whose carrier breaks in the midst of a frame: the bytes arrive by another
// one, in order and once.
func ExampleEnd() {
	now := time.Now()
	id := durable.ID{1, 2, 3, 4, 5, 6, 7, 8} // at random in earnest
	opener := durable.Open(id, durable.Config{Limit: 5 * time.Minute})
	other := durable.Accept(id, durable.Config{Limit: 5 * time.Minute})

	// What a carrier brings to the other end.
	read := func(wire []byte) {
		p := make([]byte, 100)
		_, n, err := other.Take(wire, p)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("read %q\n", p[:n])
	}

	opener.Append([]byte("hello, world"), now)
	wire := opener.Next(now)
	read(wire[:6]) // the rest is lost
	opener.Sent(opener.Epoch(), len(wire))
	opener.Lost(opener.Epoch(), now)
	other.Lost(other.Epoch(), now)

	// Another carrier. A Hello and its Answer are what it begins with each way.
	hello := opener.Hello()
	answer, ok, err := other.Resume(hello, now)
	if err != nil || !ok {
		log.Fatal(err)
	}
	if _, err := opener.Resumed(hello.Epoch, answer, now); err != nil {
		log.Fatal(err)
	}
	for b := opener.Next(now); b != nil; b = opener.Next(now) {
		read(b)
		opener.Sent(opener.Epoch(), len(b))
	}

	// The acknowledgement comes beside the carriers.
	if err := opener.Acked(other.Ack(), now); err != nil {
		log.Fatal(err)
	}
	fmt.Println("held:", opener.Held())
	// Output:
	// read "hello"
	// read ""
	// read ", world"
	// held: 0
}
