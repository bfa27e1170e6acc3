package main

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p"
	"golang.org/x/sync/errgroup"
)

// durableRole makes this program a process that holds a node whose streams are looked
// at.
const durableRole = "durable-node"

// durablePatience bounds what an order waits for.
const durablePatience = 30 * time.Second

// A durableNode is the node in such a process.
type durableNode struct {
	ctx  context.Context // ends with the process's orders
	work sync.WaitGroup
	node *p2p.Node

	mu     sync.Mutex // guards the fields below
	flows  []*flow
	lost   []string // why streams that others opened did not become flows
	held   []*p2p.Stream
	poured *p2p.Stream // that bulk comes on
	ending chan string // what ended the streams that are held
}

// durableOrders carries out orders until they end.
func durableOrders() error {
	ctx, cancel := context.WithCancel(context.Background())
	d := &durableNode{ctx: ctx, ending: make(chan string, 1)}
	defer d.close(cancel)
	return obey(os.Stdin, os.Stdout, map[string]func([]string) (string, error){
		"listen":  d.listen,
		"keep":    d.keep,
		"upgrade": d.upgrade,
		"path":    d.path,
		"reach":   d.reach,
		"memory":  func([]string) (string, error) { return fmt.Sprint(settledHeap()), nil },
		"conns":   func([]string) (string, error) { return fmt.Sprint(len(d.node.Connections())), nil },
		"streams": func([]string) (string, error) { return asText(countStreams(d.node)) },

		"flows":  d.dialFlows,
		"status": func([]string) (string, error) { return asText(d.status()) },
		"mark":   func([]string) (string, error) { d.each((*flow).mark); return "", nil },
		"stall":  func([]string) (string, error) { return d.stall(), nil },
		"arrive": d.arrive,
		"go-by":  d.goBy,
		"halt":   d.halt,

		"hold":    d.hold,
		"echo":    func([]string) (string, error) { return d.echo() },
		"moved":   d.moved,
		"stuff":   func([]string) (string, error) { return d.stuff() },
		"release": func([]string) (string, error) { d.release(); return "", nil },
		"watch":   func([]string) (string, error) { d.watch(); return "", nil },
		"ended":   d.ended,

		"bulk":       d.bulk,
		"drained":    func([]string) (string, error) { return d.drained() },
		"round-trip": d.roundTrip,
	})
}

func asText(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

func (d *durableNode) close(cancel func()) {
	cancel()
	if d.node != nil {
		d.node.Close()
	}
	d.work.Wait()
}

// listen makes the node, on the key that a number gives and at a port, so that one that
// comes back is the same one, and returns its ID and where it can be reached. What
// may follow is for how long its streams outlive their path.
func (d *durableNode) listen(args []string) (string, error) {
	var key [ed25519.SeedSize]byte
	numbers, err := numbersOf(args[:2])
	if err != nil {
		return "", err
	}
	var limit time.Duration
	if len(args) > 2 {
		if limit, err = time.ParseDuration(args[2]); err != nil {
			return "", err
		}
	}
	binary.BigEndian.PutUint64(key[:], numbers[0])
	c := durableConfig(limit)
	c.Key, c.Port = ed25519.NewKeyFromSeed(key[:]), uint16(numbers[1])
	if d.node, err = p2p.New(c); err != nil {
		return "", err
	}
	for proto, take := range map[string]func(*p2p.Stream){
		blocksProtocol: d.acceptFlow, echoProtocol: echoStream, sinkProtocol: d.ignore, bulkProtocol: pourStream,
	} {
		if err := d.serve(proto, take); err != nil {
			return "", err
		}
	}
	return nodeWords(d.node), nil
}

func numbersOf(words []string) (out []uint64, err error) {
	for _, w := range words {
		n, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// The protocols of a node whose streams are looked at.
const (
	blocksProtocol = "/measure-blocks/1"
	echoProtocol   = "/measure-echo/1"
	sinkProtocol   = "/measure-sink/1" // is not read
	bulkProtocol   = "/measure-bulk/1"
)

// serve takes each stream of a protocol in a goroutine of its own.
func (d *durableNode) serve(proto string, take func(*p2p.Stream)) error {
	l, err := d.node.Listen(proto)
	if err != nil {
		return err
	}
	d.work.Go(func() {
		for {
			s, err := l.AcceptStream()
			if err != nil {
				return
			}
			d.work.Go(func() { take(s) })
		}
	})
	return nil
}

// keep keeps the node connected to another, as a mesh does. With "relay" as its last
// word it waits until somebody relays to the node.
func (d *durableNode) keep(args []string) (string, error) {
	last := len(args) - 1
	relay := args[last] == "relay"
	if relay {
		args = args[:last]
	}
	id, addrs, err := parseNode(args)
	if err != nil {
		return "", err
	}
	first := make(chan error, 1)
	d.work.Go(func() {
		first <- d.node.Connect(d.ctx, id, addrs...)
		for wait(d.ctx, time.Second) == nil {
			_ = d.node.Connect(d.ctx, id, addrs...) // it is tried again
		}
	})
	if err := <-first; err != nil || !relay {
		return "", err
	}
	ctx, cancel := context.WithTimeout(d.ctx, durablePatience)
	defer cancel()
	for len(d.node.Relays()) == 0 {
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return "", fmt.Errorf("no relay yet: %w", err)
		}
	}
	return "", nil
}

// dialFlows opens flows: peer, first number, count, seed, bytes a second of all of them
// together. Each has half the rate of the one before.
func (d *durableNode) dialFlows(args []string) (string, error) {
	id, err := peer.Decode(args[0])
	if err != nil {
		return "", err
	}
	n, err := numbersOf(args[1:])
	if err != nil {
		return "", err
	}
	first, count, seed, bytesASecond := n[0], n[1], n[2], n[3]
	ctx, cancel := context.WithTimeout(d.ctx, durablePatience)
	defer cancel()
	for i := range count {
		s, err := d.node.Dial(kindOf(ctx, true), id, blocksProtocol)
		if err != nil {
			return "", err
		}
		f, err := dialFlow(d.ctx, s, seed, first+i, int(max(bytesASecond>>(i+1), slowestFlow)))
		if err != nil {
			return "", err
		}
		d.run(f)
	}
	return "", nil
}

// slowestFlow is the least that a flow sends, in bytes a second: some pieces.
const slowestFlow = 4 << 10

func (d *durableNode) acceptFlow(s *p2p.Stream) {
	f, err := acceptFlow(d.ctx, s)
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lost = append(d.lost, err.Error())
		return
	}
	d.run(f)
}

func (d *durableNode) run(f *flow) {
	d.mu.Lock()
	d.flows = append(d.flows, f)
	d.mu.Unlock()
	d.work.Go(f.send)
	d.work.Go(f.receive)
}

func (d *durableNode) each(do func(*flow)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.flows {
		do(f)
	}
}

// halt has the flows that were dialed, or those that were accepted, send no more.
func (d *durableNode) halt(args []string) (string, error) {
	dialed := args[0] == "dialed"
	d.each(func(f *flow) {
		if f.dialed == dialed {
			f.halt()
		}
	})
	return "", nil
}

// A durableStatus is how a node's flows are.
type durableStatus struct {
	Flows []flowStatus
	Lost  []string
}

func (d *durableNode) status() (s durableStatus) {
	d.each(func(f *flow) { s.Flows = append(s.Flows, f.status()) })
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Lost = d.lost
	return s
}

// arrive waits until bytes have come on each flow, and returns how long that took in
// milliseconds.
func (d *durableNode) arrive([]string) (string, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(d.ctx, durablePatience)
	defer cancel()
	var g errgroup.Group
	d.each(func(f *flow) { g.Go(func() error { return f.next(ctx) }) })
	err := g.Wait()
	return milliseconds(time.Since(began)), err
}

// goBy waits until all flows go by a path.
func (d *durableNode) goBy(args []string) (string, error) {
	ctx, cancel := context.WithTimeout(d.ctx, durablePatience)
	defer cancel()
	for {
		others := 0
		d.each(func(f *flow) {
			if f.stream.Path().String() != args[0] {
				others++
			}
		})
		if others == 0 {
			return "", nil
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return "", fmt.Errorf("%d streams do not go by %s: %w", others, args[0], err)
		}
	}
}

// stall returns the longest time in which nothing came on a flow since mark, in
// milliseconds.
func (d *durableNode) stall() string {
	var most time.Duration
	d.each(func(f *flow) { most = max(most, f.status().Stall) })
	return milliseconds(most)
}

// upgrade has a better path to a peer looked for now.
func (d *durableNode) upgrade(args []string) (string, error) {
	id, err := peer.Decode(args[0])
	if err == nil {
		d.node.Upgrade(id)
	}
	return "", err
}

// path waits until the best connection to a peer is by a path.
func (d *durableNode) path(args []string) (string, error) {
	id, err := peer.Decode(args[0])
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(d.ctx, durablePatience)
	defer cancel()
	for d.node.PathTo(id).String() != args[1] {
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return "", fmt.Errorf("the path is %v, not %s: %w", d.node.PathTo(id), args[1], err)
		}
	}
	return "", nil
}

// reach opens plain streams to a peer until one works, and returns how long that took in
// milliseconds.
func (d *durableNode) reach(args []string) (string, error) {
	id, err := peer.Decode(args[0])
	if err != nil {
		return "", err
	}
	began := time.Now()
	for {
		err := d.reachOnce(id)
		if err == nil {
			return milliseconds(time.Since(began)), nil
		}
		if time.Since(began) > durablePatience {
			return "", fmt.Errorf("no stream to the peer works: %w", err)
		}
		if err := wait(d.ctx, 100*time.Millisecond); err != nil {
			return "", err
		}
	}
}

func (d *durableNode) reachOnce(id peer.ID) error {
	ctx, cancel := context.WithTimeout(d.ctx, reachPatience)
	defer cancel()
	s, err := d.node.Dial(kindOf(ctx, false), id, echoProtocol)
	if err != nil {
		return err
	}
	defer s.Reset()
	_ = s.SetDeadline(time.Now().Add(reachPatience)) // a closed one says so below
	if _, err := s.Write([]byte{1}); err != nil {
		return err
	}
	_, err = s.Read(make([]byte, 1))
	return err
}

// reachPatience is how long a stream may take that is to work.
const reachPatience = 5 * time.Second
