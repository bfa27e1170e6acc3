package forward_test

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// exposePorts offers a range of ports of a node.
func exposePorts(t *testing.T, m *overlay.Mesh, text string) *forward.Expose {
	t.Helper()
	ports, err := forward.ParsePorts(text)
	if err != nil {
		t.Fatal(err)
	}
	first, last := ports.Range()
	c := overlay.ListenConfig{Ports: overlay.Ports{First: first, Last: last}, Access: overlay.Access{Allow: []overlay.Rule{overlay.Everyone}}}
	if ports.Network() == "udp" {
		c.Kind = overlay.KindDatagram
	}
	l, err := m.ListenWith(overlay.PortsService, c)
	if err != nil {
		t.Fatal(err)
	}
	e, err := forward.NewExposePorts(l, ports, forward.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// Each service of a range leads to its own port, from a node on the same machine too,
// which is given the connection itself.
func TestExposePorts(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	var names []string
	for range 3 {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		name := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
		names = append(names, name)
		served := make(chan struct{})
		go func() {
			defer close(served)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				got, _ := io.ReadAll(c)
				fmt.Fprintf(c, "%s got %s", name, got)
				c.Close()
			}
		}()
		t.Cleanup(func() { ln.Close(); <-served })
	}
	e := exposePorts(t, nodes[0], "1-65535")
	for _, from := range nodes {
		for _, name := range names {
			f, err := forward.NewForward(from, "node0/"+name, forward.Address{}, forward.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			c, err := net.Dial("tcp", f.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, "ping")
			c.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(c); string(got) != name+" got ping" || err != nil {
				t.Errorf("%s by %s answered %q, %v, want %q", name, from.Self().Name, got, err, name+" got ping")
			}
		}
	}
	if got := e.Stats(); got.Total != 6 || got.Failed != 0 {
		t.Errorf("Stats() = %+v, want 6 and none failed", got)
	}
}

// A port of the range where nobody listens is a target that is down.
func TestExposePortsUnused(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	e := exposePorts(t, nodes[0], port+"-"+port)
	c, err := nodes[1].Dial(t.Context(), "node0/"+port)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		_, err = io.ReadAll(c)
	}
	if err == nil {
		t.Error("a stream to a port without a listener ended cleanly")
	}
	if got := e.Stats().LastError; got == nil || !strings.HasPrefix(got.Error(), "dial 127.0.0.1:"+port+": ") {
		t.Errorf("LastError = %v, want that 127.0.0.1:%s was dialled", got, port)
	}
}

// A range of UDP ports is services of datagrams.
func TestExposePortsOfDatagrams(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	server := listenUDP(t)
	go echoDatagrams(server)
	exposePorts(t, nodes[0], "udp:1-65535")
	name := strconv.Itoa(server.LocalAddr().(*net.UDPAddr).Port)
	f, err := forward.NewForward(nodes[1], "node0/"+name, parse(t, "udp:0"), forward.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := net.Dial("udp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "ping")
	got := make([]byte, 10)
	if n, err := c.Read(got); string(got[:n]) != "ping" || err != nil {
		t.Errorf("the answer is %q, %v, want ping", got[:n], err)
	}
}
