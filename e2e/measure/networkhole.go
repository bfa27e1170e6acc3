package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

const (
	holeBytes = 10 << 20
	holeLimit = 30 * time.Second
)

// holes are the longest packets that pass: the least that a link of IPv6 has to carry,
// and what is left of a tunnel. There most handshakes pass as they are.
var holes = []int{1280, 1400, 1480}

// measureNetworkHole has longer packets vanish, and sends bulk from the one who is
// behind that.
func measureNetworkHole(ctx context.Context, n *network) (all []figure, err error) {
	if err := n.startRelays(ctx, 1); err != nil {
		return nil, err
	}
	for _, mtu := range holes {
		for _, ends := range [][2]place{{open, open}, {onlyTCP, onlyTCP}, {symmetric, portRestricted}, {portRestricted, portRestricted}} {
			figures, err := n.bulkPastHole(ctx, mtu, ends[0], ends[1])
			all = append(all, figures...)
			if err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

func (n *network) bulkPastHole(ctx context.Context, mtu int, a, b place) ([]figure, error) {
	name := fmt.Sprintf("packets of at most %d, %s+%s: ", mtu, a.name, b.name)
	connect := figure{Name: name + "second ready until the first answers", Unit: "ms"}
	bulk := figure{Name: name + "10 MB", Unit: "ms"}
	if _, err := n.hostAt(ctx, a, "left"); err != nil { // so that there is its router
		return nil, err
	}
	n.routers[a.name+"-left"].SetLink(lab.Link{Delay: networkDelay, MTU: mtu})
	p, err := n.bulkPair(ctx, a, b)
	if err != nil {
		connect.Note = err.Error()
		return []figure{connect}, ctx.Err()
	}
	defer p.close()
	began := time.Now()
	if _, err := p.to.output(ctx, "ping", p.from.name, "-n", "1"); err != nil {
		connect.Note = err.Error()
	} else {
		connect.addTime(time.Since(began))
	}
	began = time.Now()
	err = p.fetch(ctx, holeBytes, holeLimit)
	path, _ := p.to.pathTo(ctx, p.from.name)
	bulk.Note = "by " + path
	if err != nil {
		bulk.Note += " " + err.Error()
	} else {
		bulk.addTime(time.Since(began))
	}
	return []figure{connect, bulk}, nil
}

// fetch gets that much of the first's bulk.
func (p *bulkEnds) fetch(ctx context.Context, bytes int64, limit time.Duration) error {
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	got, err := io.CopyN(io.Discard, c, bytes)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", got, err)
	}
	return nil
}

// dial connects to the first's service by the second's forward.
func (p *bulkEnds) dial(ctx context.Context) (c net.Conn, err error) {
	err = p.to.host.Do(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, "tcp", p.target)
		return err
	})
	return c, err
}
