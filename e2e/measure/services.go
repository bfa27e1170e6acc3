package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// serviceRole makes this program the servers that are behind services.
const serviceRole = "services"

const (
	manyForwards    = 100
	manyConnections = 10000
)

// servicePaths are the ways in which the two nodes of services reach each other.
var servicePaths = []struct {
	name  string
	flags func(dir string) []string
}{
	{"unix", localFlags},
	{"lan", func(string) []string { return []string{"--no-local"} }},
}

// overServicePaths takes a measurement of two nodes on each path: of a, which has
// the services, and b.
func overServicePaths(measure func(ctx context.Context, path string, p servicePair) ([]figure, error)) measurement {
	return func(ctx context.Context, s *site) (all []figure, err error) {
		for _, path := range servicePaths {
			figures, err := onServicePath(ctx, s, path.name, path.flags(s.dir), measure)
			all = append(all, figures...)
			if err != nil {
				return all, fmt.Errorf("path %s: %w", path.name, err)
			}
		}
		return all, nil
	}
}

func onServicePath(ctx context.Context, s *site, path string, flags []string, measure func(context.Context, string, servicePair) ([]figure, error)) ([]figure, error) {
	p := servicePair{a: s.node("a-" + path), b: s.node("b-" + path)}
	if _, err := p.a.start(ctx, "", append([]string{"up", "--ephemeral"}, flags...)...); err != nil {
		return nil, err
	}
	defer p.a.stop()
	invite, err := p.a.output(ctx, "invite")
	if err != nil {
		return nil, err
	}
	if _, err := p.b.start(ctx, invite, append([]string{"join", "-", "--ephemeral"}, flags...)...); err != nil {
		return nil, err
	}
	defer p.b.stop()
	if p.servers, err = startChild(ctx, serviceRole); err != nil {
		return nil, err
	}
	defer p.servers.stop()
	return measure(ctx, path, p)
}

// A servicePair is two nodes, and a process with the servers of the one that has the
// services.
type servicePair struct {
	a, b    *node
	servers *child
}

// forward makes a server of a kind a service of a, and returns where b forwards it.
func (p servicePair) forward(ctx context.Context, service, kind string) (string, error) {
	addr, err := p.servers.ask("serve", kind)
	if err != nil {
		return "", err
	}
	if _, err := p.a.output(ctx, "expose", service, addr); err != nil {
		return "", err
	}
	return p.b.forward(ctx, p.a.name+"/"+service)
}

// resident returns what both nodes have in memory, in kB.
func (p servicePair) resident() (float64, error) {
	a, _, err := p.a.memory()
	if err != nil {
		return 0, err
	}
	b, _, err := p.b.memory()
	return (a + b) * 1000, err
}

// files returns how many each node has open.
func (p servicePair) files() (counts [2]int, err error) {
	for i, n := range []*node{p.a, p.b} {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))
		if err != nil {
			return counts, err
		}
		counts[i] = len(files)
	}
	return counts, nil
}

// servers carries out orders: "serve KIND" starts a server and answers with its
// address. A greeter sends a byte to whoever connects, a pourer all that they take.
func servers() error {
	return obey(os.Stdin, os.Stdout, map[string]func([]string) (string, error){
		"serve": func(args []string) (string, error) {
			if len(args) != 1 {
				return "", errors.New("serve takes one kind")
			}
			switch args[0] {
			case "greeter":
				l, err := greeter()
				if err != nil {
					return "", err
				}
				return l.Addr().String(), nil
			case "pourer":
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return "", err
				}
				go pour(l)
				return l.Addr().String(), nil
			}
			return "", fmt.Errorf("no server is a %q", args[0])
		},
	})
}

// measureServicesOpen has many connections open through many forwards at once, each
// of which has brought a byte and is then idle.
func measureServicesOpen(connections int) measurement {
	return overServicePaths(func(ctx context.Context, path string, p servicePair) ([]figure, error) {
		forwards := make([]string, manyForwards)
		for i := range forwards {
			var err error
			if forwards[i], err = p.forward(ctx, fmt.Sprint("service", i), "greeter"); err != nil {
				return nil, err
			}
		}
		name := fmt.Sprintf("%d connections through %d forwards, path %s: ", connections, manyForwards, path)
		each := figure{Name: name + "resident memory of both nodes, each", Unit: "kB"}
		rate := figure{Name: name + "opened a second", Unit: "/s"}
		refused := figure{Name: name + "refused"}
		before, err := p.resident() // what is kept for later has yet to be had
		if err != nil {
			return nil, err
		}
		for range 3 {
			begin := time.Now()
			conns, failures := openThrough(ctx, forwards, connections)
			rate.Values = append(rate.Values, float64(len(conns))/time.Since(begin).Seconds())
			refused.Values = append(refused.Values, float64(len(failures)))
			if len(failures) > 0 {
				refused.Note = "such as " + failures[0].Error()
			}
			held, err := p.resident()
			if err == nil {
				each.Values = append(each.Values, (held-before)/float64(len(conns)))
				each.Note, err = p.filesNote()
			}
			for _, c := range conns {
				c.Close()
			}
			if err != nil {
				return nil, err
			}
			if err := wait(ctx, 1*time.Second); err != nil { // the nodes close theirs
				return nil, err
			}
		}
		return []figure{each, rate, refused}, nil
	})
}

func (p servicePair) filesNote() (string, error) {
	files, err := p.files()
	return fmt.Sprintf("%d and %d files open", files[0], files[1]), err
}

// openThrough opens connections through forwards in turn, and reads a byte of each.
func openThrough(ctx context.Context, forwards []string, count int) (conns []net.Conn, failures []error) {
	var mu sync.Mutex // guards the results
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range count {
		g.Go(func() error {
			c, err := openOne(ctx, forwards[i%len(forwards)])
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, err)
			} else {
				conns = append(conns, c)
			}
			return nil
		})
	}
	_ = g.Wait() // failures has what went wrong
	return conns, failures
}

// openPatience is how long a connection may take to bring its first byte.
const openPatience = time.Minute

func openOne(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = c.SetReadDeadline(time.Now().Add(openPatience))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return nil, errors.Join(fmt.Errorf("read the first byte from %s: %w", addr, err), c.Close())
	}
	return c, nil
}
