package main

import (
	"context"
	"slices"
)

// A way is one route for bytes from a client's socket to a server's.
type way interface {
	// name is the way's name in flags, table and JSON.
	name() string

	// ends is the name of what its client and server hold, see allEnds.
	ends() string

	// start brings up, by the site's methods, what lies between the server,
	// which listens at the address server, and the client, and returns the
	// address that the client must dial. It may return before that address
	// answers. It returns a skip where the way can't be had on this machine. It
	// sets the site's path where there is a path to tell.
	start(ctx context.Context, s *site, server string) (dial string, err error)
}

// ways lists all ways: those with nothing between, and then those with something,
// from the least to the most.
var ways = []way{
	none{}, unixWay{}, streamWay{},
	splice{}, tlsWay{}, sshWay{}, libp2pWay{},
	p2pnodeWay{called: "p2pnode", local: true}, p2pnodeWay{called: "p2pnode-lan"},
}

// A skip is the reason for which a way can't be measured on this machine.
type skip string

func (s skip) Error() string { return string(s) }

func wayNames() []string {
	var names []string
	for _, w := range ways {
		names = append(names, w.name())
	}
	return names
}

func wayNamed(name string) (way, bool) {
	i := slices.IndexFunc(ways, func(w way) bool { return w.name() == name })
	if i < 0 {
		return nil, false
	}
	return ways[i], true
}
