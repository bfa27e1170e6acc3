package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/p2p"
)

// localNodeRole makes this program a process that holds nodes. Its arguments are
// the level of them and the directory where those of this machine meet.
const localNodeRole = "local-nodes"

// The levels are what a node is made of.
const (
	peerLevel = "p2p"     // package p2p alone, everybody admitted
	meshLevel = "overlay" // members of one mesh
)

// localPatience is how long a step of a measurement may take.
const localPatience = 2 * time.Minute

// localNodes are the nodes in one process. The first is the one looked at.
type localNodes struct {
	level, dir string
	nodes      []*p2p.Node
	meshes     []*overlay.Mesh // one for each of the nodes, on that level
	streams    []*overlay.Conn
}

// localNodesRole carries out orders until they end.
func localNodesRole(args []string) error {
	l := &localNodes{level: args[0], dir: args[1]}
	defer l.close()
	return obey(os.Stdin, os.Stdout, map[string]func([]string) (string, error){
		"found":  func([]string) (string, error) { return l.found() },
		"add":    func(args []string) (string, error) { return "", withCount(args, l.add) },
		"await":  func(args []string) (string, error) { return "", withCount(args, l.await) },
		"paths":  func([]string) (string, error) { return l.paths(), nil },
		"peers":  func([]string) (string, error) { return fmt.Sprint(l.peers(), " ", l.members()), nil },
		"memory": func([]string) (string, error) { return fmt.Sprint(settledHeap()), nil },
		"open":   func(args []string) (string, error) { return "", withCount(args, l.open) },
		"shut":   func([]string) (string, error) { return "", l.shut() },
	})
}

// withCount calls f with the number that is first in args, and the others.
func withCount(args []string, f func(context.Context, int, []string) error) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), localPatience)
	defer cancel()
	return f(ctx, n, args[1:])
}

// found makes the first node, and returns the words by which others are added.
func (l *localNodes) found() (string, error) {
	if l.level == meshLevel {
		mesh, err := overlay.Open(context.Background(), localMesh(overlay.Config{Name: echoMember}, l.dir))
		if err != nil {
			return "", err
		}
		l.keep(mesh)
		if err := serveEcho(mesh); err != nil {
			return "", err
		}
		inv, err := mesh.Invite(overlay.InviteOptions{})
		if err != nil {
			return "", err
		}
		return inv.Text(), nil
	}
	n, err := p2p.New(localPeer(p2p.Config{}, l.dir))
	if err != nil {
		return "", err
	}
	l.nodes = append(l.nodes, n)
	return nodeWords(n), nil
}

func (l *localNodes) keep(mesh *overlay.Mesh) {
	l.meshes = append(l.meshes, mesh)
	l.nodes = append(l.nodes, mesh.Node())
}

// add makes nodes that are connected to the one that the words are from.
func (l *localNodes) add(ctx context.Context, count int, words []string) error {
	for range count {
		var err error
		if l.level == meshLevel {
			err = l.join(ctx, words[0])
		} else {
			err = l.connect(ctx, words[0], words[1:])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// join tries until ctx ends: where a hundred nodes start on two cores, one may not
// get an answer in time.
func (l *localNodes) join(ctx context.Context, invite string) error {
	name := fmt.Sprintf("n%d-%d", os.Getpid(), len(l.nodes))
	for {
		mesh, err := overlay.Join(ctx, invite, localMesh(overlay.Config{Name: name}, l.dir))
		switch {
		case err == nil:
			l.keep(mesh)
			return nil
		case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, overlay.ErrNoMemberReached):
			return err
		}
	}
}

func (l *localNodes) connect(ctx context.Context, id string, at []string) error {
	to, err := peer.Decode(id)
	if err != nil {
		return err
	}
	var addrs []multiaddr.Multiaddr
	for _, s := range at {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return err
		}
		addrs = append(addrs, a)
	}
	n, err := p2p.New(localPeer(p2p.Config{}, l.dir))
	if err != nil {
		return err
	}
	l.nodes = append(l.nodes, n)
	return errors.Join(n.Connect(ctx, to, addrs...), n.Identified(ctx, to))
}

// await waits until the first node is connected to so many peers, and, if it is of a
// mesh, knows as many members as words says. Of these it need not stay connected to
// more than it keeps.
func (l *localNodes) await(ctx context.Context, count int, words []string) error {
	members, err := strconv.Atoi(words[0])
	if err != nil {
		return err
	}
	if l.level == peerLevel {
		for range l.nodes[0].Watch(ctx) {
			if l.peers() >= count {
				return nil
			}
		}
	} else {
		for range l.meshes[0].Watch(ctx) {
			if l.members() >= members && (members > count || l.peers() >= count) {
				return nil
			}
		}
	}
	return fmt.Errorf("connected to %d peers, not %d, and knows %d members, not %d: %w", l.peers(), count, l.members(), members, ctx.Err())
}

// members counts those that the first node knows to be up, itself excluded.
func (l *localNodes) members() (up int) {
	if l.level == peerLevel {
		return 0
	}
	for _, m := range l.meshes[0].Members() {
		if m.Up && !m.Self {
			up++
		}
	}
	return up
}

// peers counts those that the first node is connected to.
func (l *localNodes) peers() int {
	seen := map[peer.ID]bool{}
	for _, c := range l.nodes[0].Connections() {
		seen[c.Peer] = true
	}
	return len(seen)
}

// paths returns by which paths the first node is connected.
func (l *localNodes) paths() string {
	var paths []string
	for _, c := range l.nodes[0].Connections() {
		if p := l.nodes[0].PathTo(c.Peer).String(); !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return strings.Join(paths, ",")
}

// open opens streams from the first node.
func (l *localNodes) open(ctx context.Context, count int, _ []string) error {
	streams, err := openMany(ctx, l.meshes[0], count)
	l.streams = append(l.streams, streams...)
	return err
}

// shut closes all streams.
func (l *localNodes) shut() error {
	var errs []error
	for _, s := range l.streams {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	l.streams = nil
	return errors.Join(errs...)
}

func (l *localNodes) close() {
	for _, m := range l.meshes {
		m.Close()
	}
	for _, n := range l.nodes[len(l.meshes):] {
		n.Close()
	}
}
