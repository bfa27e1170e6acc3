package netwatch_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/p2pnode/p2pnode/p2p/netwatch"
)

// Whoever watches has the present state at once.
func ExampleWatcher_Watch() {
	w, err := netwatch.New()
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for state := range w.Watch(ctx) {
		fmt.Println("asleep so far:", state.Sleeps)
		break
	}
	// Output: asleep so far: 0
}
