package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/e2e/lab"
	"github.com/p2pnode/p2pnode/p2p"
	"golang.org/x/sync/errgroup"
)

// networkNodesRole makes this program a process that holds nodes of package p2p, which
// admit everybody, on a host of a lab.
const networkNodesRole = "network-nodes"

// networkNodes are the nodes in one process.
type networkNodes struct{ nodes []*p2p.Node }

// networkNodesOrders carries out orders until they end.
func networkNodesOrders() error {
	l := &networkNodes{}
	defer l.close()
	return obey(os.Stdin, os.Stdout, map[string]func([]string) (string, error){
		"listen":  func([]string) (string, error) { return l.listen() },
		"settle":  func(args []string) (string, error) { return l.settle(args) },
		"meet":    func(args []string) (string, error) { return "", l.meet(args) },
		"greet":   func(args []string) (string, error) { return l.greet(args) },
		"peers":   func([]string) (string, error) { return fmt.Sprint(l.peers()), nil },
		"reached": func([]string) (string, error) { return fmt.Sprint(l.reached()), nil },
		"paths":   func([]string) (string, error) { return l.paths(), nil },
		"memory":  func([]string) (string, error) { return fmt.Sprint(settledHeap()), nil },
	})
}

// startNodes starts such a process on a host.
func startNodes(ctx context.Context, h *lab.Host) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{role: networkNodesRole, cmd: h.Command(context.WithoutCancel(ctx), self, networkNodesRole)}
	if err := c.tie(); err != nil {
		return nil, err
	}
	return c, c.cmd.Start()
}

// listen makes a node, and returns its ID and where it can be reached.
func (l *networkNodes) listen() (string, error) {
	n, err := p2p.New(p2p.Config{})
	if err != nil {
		return "", err
	}
	l.nodes = append(l.nodes, n)
	return nodeWords(n), nil
}

// settle makes so many nodes that the one that the words are from relays to, and
// returns their IDs.
func (l *networkNodes) settle(args []string) (string, error) {
	var ids []string
	err := withCount(args, func(ctx context.Context, count int, words []string) error {
		relay, addrs, err := parseNode(words)
		if err != nil {
			return err
		}
		for range count {
			n, err := p2p.New(p2p.Config{})
			if err != nil {
				return err
			}
			l.nodes = append(l.nodes, n)
			ids = append(ids, n.ID().String())
			if err := n.Connect(ctx, relay, addrs...); err != nil {
				return err
			}
		}
		for _, n := range l.nodes {
			for len(n.Relays()) == 0 {
				if err := wait(ctx, 20*time.Millisecond); err != nil {
					return fmt.Errorf("no relay yet: %w", err)
				}
			}
		}
		return nil
	})
	return strings.Join(ids, " "), err
}

// meet connects each node to each of those named, through the relay at an address.
func (l *networkNodes) meet(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), localPatience)
	defer cancel()
	through, err := multiaddr.NewMultiaddr(args[0] + "/p2p-circuit")
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, n := range l.nodes {
		for _, name := range args[1:] {
			id, err := peer.Decode(name)
			if err != nil {
				return err
			}
			g.Go(func() error {
				err := n.Connect(ctx, id, through)
				if err == nil {
					_, err = n.Ping(ctx, id)
				}
				return err
			})
		}
	}
	return g.Wait()
}

// greet makes a node, connects it to the one that the words are from within that many
// seconds, and returns how long that took, in milliseconds, and by which transport.
func (l *networkNodes) greet(args []string) (text string, err error) {
	err = withCount(args, func(ctx context.Context, seconds int, words []string) error {
		id, addrs, err := parseNode(words)
		if err != nil {
			return err
		}
		n, err := p2p.New(p2p.Config{})
		if err != nil {
			return err
		}
		defer n.Close()
		ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
		defer cancel()
		began := time.Now()
		if err := n.Connect(ctx, id, addrs...); err != nil {
			return err
		}
		text = fmt.Sprint(float64(time.Since(began).Microseconds())/1000, " ", transportOf(n, id))
		return nil
	})
	return text, err
}

// transportOf returns by what a node is connected to a peer.
func transportOf(n *p2p.Node, id peer.ID) string {
	for _, c := range n.Connections() {
		if c.Peer != id {
			continue
		}
		if _, err := c.Addr.ValueForProtocol(multiaddr.P_QUIC_V1); err == nil {
			return "quic"
		}
		return "tcp"
	}
	return "nothing"
}

// peers counts those that the first node is connected to.
func (l *networkNodes) peers() int {
	seen := map[peer.ID]bool{}
	for _, c := range l.nodes[0].Connections() {
		seen[c.Peer] = true
	}
	return len(seen)
}

// reached counts the nodes that somebody relays to.
func (l *networkNodes) reached() (count int) {
	for _, n := range l.nodes {
		if len(n.Relays()) > 0 {
			count++
		}
	}
	return count
}

// paths counts the connections of all nodes by their path.
func (l *networkNodes) paths() string {
	count := map[p2p.Path]int{}
	for _, n := range l.nodes {
		for _, c := range n.Connections() {
			count[c.Path]++
		}
	}
	return fmt.Sprint(count)
}

func (l *networkNodes) close() {
	for _, n := range l.nodes {
		n.Close()
	}
}

// nodeWords returns a node's ID and its addresses, for parseNode to read.
func nodeWords(n *p2p.Node) string {
	words := []string{n.ID().String()}
	for _, a := range n.Addrs() {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

// parseNode reads what listen returned.
func parseNode(words []string) (peer.ID, []multiaddr.Multiaddr, error) {
	if len(words) == 0 {
		return "", nil, errors.New("no node is named")
	}
	id, err := peer.Decode(words[0])
	if err != nil {
		return "", nil, err
	}
	var addrs []multiaddr.Multiaddr
	for _, s := range words[1:] {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return "", nil, err
		}
		addrs = append(addrs, a)
	}
	return id, addrs, nil
}
