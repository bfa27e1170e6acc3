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

// A streamCount is what the streams of a node went through, ended ones among them.
type streamCount struct {
	Streams, Moves, Resumes, Stalls int
	Replayed                        int64 // bytes
}

func countStreams(n *p2p.Node) streamCount {
	t := n.StreamTotals()
	return streamCount{
		Streams: t.Open, Moves: int(t.Moves), Resumes: int(t.Resumes), Stalls: int(t.Stalls), Replayed: int64(t.Replayed),
	}
}
