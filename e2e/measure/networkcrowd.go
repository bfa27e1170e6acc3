package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
	"golang.org/x/sync/errgroup"
)

const (
	// crowdProcesses hold the nodes of a crowd. As processes of their own, members of
	// a mesh besides, two hundred of them take more than two cores have.
	crowdProcesses = 4

	// crowdPatience bounds the wait for all of them.
	crowdPatience = 2 * time.Minute
)

// measureNetworkCrowd has that many nodes come from behind one public address, where
// there is one relay, and then has their provider give them another address.
func measureNetworkCrowd(count int) measurement {
	return inNetwork(func(ctx context.Context, n *network) ([]figure, error) {
		c, err := n.newCrowd(ctx, count)
		if err != nil {
			return nil, err
		}
		defer c.close()
		settle := figure{Name: fmt.Sprintf("%d behind one address: start until all are reached through the relay", c.count), Unit: "ms"}
		began := time.Now()
		if err := c.settle(); err != nil {
			return nil, err
		}
		settle.Note, err = c.await(ctx)
		settle.addTime(time.Since(began))
		if err != nil {
			return []figure{settle}, err
		}
		again := figure{Name: fmt.Sprintf("%d behind one address: another address until all are reached again", c.count), Unit: "ms"}
		c.router.ChangeAddress()
		began = time.Now()
		if err := wait(ctx, 5*time.Second); err != nil { // until all have noticed
			return []figure{settle}, err
		}
		again.Note, err = c.await(ctx)
		again.addTime(time.Since(began))
		return []figure{settle, again}, err
	})
}

// A crowd is a relay and those who are behind one router.
type crowdNodes struct {
	count  int
	router *lab.Router
	relay  *child
	words  string // of the relay
	parts  []*child
}

func (n *network) newCrowd(ctx context.Context, count int) (_ *crowdNodes, err error) {
	c := &crowdNodes{count: count / crowdProcesses * crowdProcesses, router: n.lab.Router("crowd", lab.NAT{Kind: lab.PortRestricted})}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	c.router.SetLink(lab.Link{Delay: networkDelay})
	at, host := n.lab.Host("crowd-relay"), c.router.Host("crowd")
	if err := n.lab.Err(); err != nil {
		return nil, err
	}
	if c.relay, err = startNodes(ctx, at); err != nil {
		return nil, err
	}
	if c.words, err = c.relay.ask("listen"); err != nil {
		return nil, err
	}
	for range crowdProcesses {
		p, err := startNodes(ctx, host)
		if err != nil {
			return nil, err
		}
		c.parts = append(c.parts, p)
	}
	return c, nil
}

func (c *crowdNodes) close() {
	for _, p := range c.parts {
		p.stop()
	}
	if c.relay != nil {
		c.relay.stop()
	}
}

// settle starts all nodes and waits until each is relayed to.
func (c *crowdNodes) settle() error {
	var g errgroup.Group
	for _, p := range c.parts {
		g.Go(func() error {
			_, err := p.ask("settle", c.count/crowdProcesses, c.words)
			return err
		})
	}
	return g.Wait()
}

// await waits until the relay is connected to all, and all have it relay.
func (c *crowdNodes) await(ctx context.Context) (note string, err error) {
	for began := time.Now(); ; {
		connected, err := c.relay.askCount("peers")
		if err != nil {
			return "", err
		}
		reached := 0
		for _, p := range c.parts {
			count, err := p.askCount("reached")
			if err != nil {
				return "", err
			}
			reached += count
		}
		note = fmt.Sprintf("connected %d/%d, reserved %d/%d", connected, c.count, reached, c.count)
		if connected == c.count && reached == c.count || time.Since(began) > crowdPatience {
			return note, nil
		}
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return note, err
		}
	}
}

// askCount gives an order whose answer is a number.
func (c *child) askCount(order string) (int, error) {
	text, err := c.ask(order)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}
