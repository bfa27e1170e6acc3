package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/p2pnode/p2pnode/e2e/lab"
)

const (
	lossyCount  = 50
	lossyLimit  = 60 // seconds
	lossyAtOnce = 5
)

// measureNetworkLoss connects new nodes to one, and has new members join, where of ten
// packets three are lost, each way.
func measureNetworkLoss(ctx context.Context, n *network) ([]figure, error) {
	far, near := n.lab.Host("lossy-far"), n.lab.Host("lossy-near")
	far.SetLink(lab.Link{Delay: 2 * networkDelay, Loss: 0.3})
	connect := figure{Name: "30 % loss each way: handshakes", Unit: "ms"}
	join := figure{Name: "30 % loss each way: process start to member", Unit: "ms"}
	server, err := startNodes(ctx, far)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	words, err := server.ask("listen")
	if err != nil {
		return nil, err
	}
	var t tally
	t.run(lossyAtOnce, func() (float64, string, error) { // each of these has its own process
		c, err := startNodes(ctx, near)
		if err != nil {
			return 0, "", err
		}
		defer c.stop()
		text, err := c.ask("greet", lossyLimit, words)
		if err != nil {
			return 0, "", err
		}
		ms, by, _ := strings.Cut(text, " ")
		took, err := strconv.ParseFloat(ms, 64)
		return took, by, err
	}, lossyCount)
	t.into(&connect)
	first := n.site.node("lossy-first").on(far)
	if _, err := first.start(ctx, "", "up", "--no-local", "--ephemeral"); err != nil {
		return nil, err
	}
	defer first.end()
	invite, err := first.output(ctx, "invite")
	if err != nil {
		return nil, err
	}
	nodes := make(chan *node, lossyCount)
	for i := range lossyCount {
		nodes <- n.site.node(fmt.Sprint("lossy-", i)).on(near)
	}
	t = tally{}
	t.run(lossyAtOnce, func() (float64, string, error) {
		ctx, cancel := context.WithTimeout(ctx, lossyLimit*time.Second)
		defer cancel()
		m := <-nodes
		stop := context.AfterFunc(ctx, m.interrupt)
		defer stop()
		took, err := m.start(ctx, invite, "join", "-", "--no-local", "--ephemeral", "-v")
		m.stop()
		return float64(took.Microseconds()) / 1000, "", err
	}, lossyCount)
	t.into(&join)
	return []figure{connect, join}, nil
}

// A tally is what came of doing something often.
type tally struct {
	mu     sync.Mutex
	values []float64
	by     map[string]int
	err    error // the last
	failed int
}

// run does it so often, some at once.
func (t *tally) run(atOnce int, do func() (float64, string, error), count int) {
	t.by = map[string]int{}
	turns := make(chan struct{}, count)
	for range count {
		turns <- struct{}{}
	}
	close(turns)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for range turns {
				v, by, err := do()
				t.note(v, by, err)
			}
		})
	}
	wg.Wait()
}

func (t *tally) note(v float64, by string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failed, t.err = t.failed+1, err
		return
	}
	t.values = append(t.values, v)
	t.by[by]++
}

func (t *tally) into(f *figure) {
	f.Values = t.values
	f.Note = fmt.Sprintf("%d/%d", len(t.values), len(t.values)+t.failed)
	for by, count := range t.by {
		if by != "" {
			f.Note += fmt.Sprintf(" %s %d", by, count)
		}
	}
	if t.err != nil {
		f.Note += " " + t.err.Error()
	}
}
