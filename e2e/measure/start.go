package main

import (
	"context"
	"fmt"
	"time"
)

// measureStart takes the times from the start of a process: to ready when it
// joins, and to the first byte through a forward, from a peer that it knew and
// from one that it has to find.
func measureStart(rounds int) measurement {
	return func(ctx context.Context, s *site) ([]figure, error) {
		server, err := greeter()
		if err != nil {
			return nil, err
		}
		defer server.Close()
		alice, carol, bob := s.node("alice"), s.node("carol"), s.node("bob")
		if _, err := alice.start(ctx, "", "up"); err != nil {
			return nil, err
		}
		invite, err := alice.output(ctx, "invite")
		if err != nil {
			return nil, err
		}
		for _, n := range []*node{carol, bob} {
			if _, err := n.start(ctx, invite, "join", "-"); err != nil {
				return nil, err
			}
		}
		for _, n := range []*node{alice, carol} {
			if _, err := n.output(ctx, "expose", "greet", server.Addr().String()); err != nil {
				return nil, err
			}
		}
		join := figure{Name: "join: process start to ready", Unit: "ms"}
		found := figure{Name: "join: process start to first byte from a peer found by DHT", Unit: "ms"}
		known := figure{Name: "up: process start to first byte from a known peer", Unit: "ms"}
		for i := range rounds {
			n := s.node(fmt.Sprint("n", i))
			ready, all, err := n.startToByte(ctx, "carol/greet", invite, "join", "-", "--ephemeral")
			n.stop()
			if err != nil {
				return nil, err
			}
			join.addTime(ready)
			found.addTime(all)
			bob.stop()
			_, all, err = bob.startToByte(ctx, "alice/greet", "", "up")
			if err != nil {
				return nil, err
			}
			known.addTime(all)
		}
		return []figure{join, known, found}, nil
	}
}

func (n *node) startToByte(ctx context.Context, target, stdin string, args ...string) (ready, all time.Duration, err error) {
	begin := time.Now()
	if ready, err = n.start(ctx, stdin, args...); err != nil {
		return 0, 0, err
	}
	addr, err := n.forward(ctx, target)
	if err != nil {
		return 0, 0, err
	}
	err = firstByte(ctx, addr)
	return ready, time.Since(begin), err
}
