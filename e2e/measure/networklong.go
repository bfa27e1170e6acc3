package main

import (
	"context"
	"net"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

// longWires are links on which windows and loss decide what bulk gets. There is one
// between two machines, so that its delay is half a round trip. The emulated link carries
// some 200 Mbit/s where two cores do that alone, which leaves a margin of half.
var longWires = []wire{
	{"link of 100 Mbit/s, round trip 100 ms", lab.Link{Rate: 100e6, Delay: 50 * time.Millisecond, Queue: 2 << 20}},
	{"100 Mbit/s, 2 % loss each way, round trip 50 ms", lab.Link{Rate: 100e6, Delay: 25 * time.Millisecond, Queue: 1 << 20, Loss: 0.02}},
}

// measureNetworkLong sends bulk through a forward over long links, in turns with a plain
// TCP connection between the same machines.
func measureNetworkLong(rounds int) measurement {
	return inNetwork(func(ctx context.Context, n *network) (all []figure, err error) {
		if err := n.startRelays(ctx, 1); err != nil {
			return nil, err
		}
		p, err := n.bulkPair(ctx, open, open)
		if err != nil {
			return nil, err
		}
		defer p.close()
		for _, w := range longWires {
			p.wires[0].SetLink(w.link)
			p.wires[1].SetLink(lab.Link{})
			figures, err := n.bulkBesideTCP(ctx, w, p, min(rounds, 3))
			all = append(all, figures...)
			if err != nil {
				return all, err
			}
		}
		return all, nil
	})
}

// bulkBesideTCP measures with one kind of link.
func (n *network) bulkBesideTCP(ctx context.Context, w wire, p *bulkEnds, rounds int) ([]figure, error) {
	plain := figure{Name: w.name + ": plain TCP", Unit: "Mbit/s"}
	forward := figure{Name: w.name + ": through a forward", Unit: "Mbit/s"}
	ratio := figure{Name: w.name + ": through a forward, of plain TCP"}
	source, err := p.from.listen()
	if err != nil {
		return nil, err
	}
	defer source.Close()
	go pour(source)
	if _, err := p.measure(ctx, &figure{}, nil); err != nil { // it shows that there is bulk
		return nil, err
	}
	for range rounds {
		a, err := plainBulk(p.to.host, source.Addr().String())
		if err != nil {
			return nil, err
		}
		plain.Values = append(plain.Values, a)
		b, err := p.measure(ctx, &forward, nil)
		if err != nil {
			return nil, err
		}
		ratio.Values = append(ratio.Values, b.rate/a)
	}
	return []figure{plain, forward, ratio}, nil
}

// listen listens on the node's host, where others reach it.
func (n *node) listen() (l net.Listener, err error) {
	err = n.host.Do(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(n.host.Addr().String(), "0"))
		return err
	})
	return l, err
}

// plainBulk returns what a plain TCP connection brings, in Mbit/s.
func plainBulk(h *lab.Host, addr string) (rate float64, err error) {
	var c net.Conn
	err = h.Do(func() (err error) {
		c, err = net.Dial("tcp", addr)
		return err
	})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return steady(c)
}
