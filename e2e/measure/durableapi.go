package main

import (
	"context"
	"time"

	"github.com/p2pnode/p2pnode/p2p"
)

// What the measurements of durable streams ask of package p2p beyond opening streams.

// mutants are the build tags of nodes whose streams lose or repeat a frame. The soak
// has to find each of them out.
var mutants = []string{"mutate_drop", "mutate_repeat"}

// kindOf returns a ctx with which Dial opens a stream that is durable, or plain.
func kindOf(ctx context.Context, durable bool) context.Context {
	if durable {
		return ctx
	}
	return p2p.Plain(ctx)
}

// durableConfig is the configuration of a node whose streams outlive their path for so
// long; zero is the default.
func durableConfig(limit time.Duration) p2p.Config {
	return p2p.Config{StreamLimit: limit}
}

// A streamCount is what the streams of a node went through, summed up.
type streamCount struct {
	Streams, Moves, Resumes, Stalls int
	Replayed                        int64 // bytes
}

func countStreams(n *p2p.Node) (c streamCount) {
	for _, s := range n.Streams() {
		c.Streams++
		c.Moves += s.Moves
		c.Resumes += s.Resumes
		c.Stalls += s.Stalls
		c.Replayed += int64(s.Replayed)
	}
	return c
}
