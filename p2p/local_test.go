package p2p

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
)

// Nodes of one directory and secret meet without an address, and tell none.
func TestLocal(t *testing.T) {
	a, b := newTestPair(t, onMachine)
	if got := a.PathTo(b.ID()); got != PathUnix {
		t.Errorf("PathTo = %v, want %v", got, PathUnix)
	}
	serveEcho(t, b, "/echo/1")
	if err := echo(testContext(t), a, b.ID(), "/echo/1"); err != nil {
		t.Error(err)
	}
	if err := a.Identified(testContext(t), b.ID()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Node{a, b} {
		for _, other := range []*Node{a, b} {
			if addrs := n.KnownAddrs(other.ID()); len(addrs) > 0 {
				t.Errorf("KnownAddrs = %v, want none", addrs)
			}
			if addrs := n.Host().Peerstore().Addrs(other.ID()); len(withoutLocal(addrs)) != len(addrs) {
				t.Errorf("the peerstore has %v", addrs)
			}
		}
		if addrs := n.Addrs(); len(addrs) > 0 {
			t.Errorf("Addrs() = %v, want none", addrs)
		}
	}
	c := a.Connections()
	if len(c) != 1 || c[0].Path != PathUnix || c[0].Inbound || c[0].Peer != b.ID() {
		t.Errorf("Connections() = %+v", c)
	}
}

func TestLocalOfAnotherKind(t *testing.T) {
	local := onlyLocal(t)
	a := newTestNode(t, Config{Local: local})
	other := *local
	other.Secret = []byte("of others")
	b := newTestNode(t, Config{Local: &other})
	if ids := append(a.LocalPeers(), b.LocalPeers()...); len(ids) > 0 {
		t.Errorf("they see %v", ids)
	}
	checkIs(t, "Connect", a.Connect(testContext(t), b.ID()), ErrNoAddress)
}

// A connection that two nodes have by TCP moves to the path on this machine.
func TestMovesToLocal(t *testing.T) {
	local := &Local{Dir: t.TempDir(), Secret: []byte("of these")}
	a := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0"), Local: local})
	c := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0"), Local: local})
	waitLocal(t, c, a.ID())
	c.kit.host.Peerstore().AddAddrs(a.ID(), a.Addrs(), addressTTL)
	if _, err := c.kit.swarm.DialPeer(testContext(t), a.ID()); err != nil { // by TCP, as libp2p does
		t.Fatal(err)
	}
	for _, n := range []struct{ node, to *Node }{{c, a}, {a, c}} {
		for range n.node.Watch(testContext(t)) {
			if n.node.PathTo(n.to.ID()) == PathUnix {
				break
			}
		}
		if got := n.node.PathTo(n.to.ID()); got != PathUnix {
			t.Errorf("PathTo = %v, want %v", got, PathUnix)
		}
	}
}

// Admission is as on every path.
func TestLocalAdmission(t *testing.T) {
	for _, tt := range []struct {
		name             string
		dialer, listener Admission
		here             bool
	}{
		{"the listener refuses", secret("other"), secret("word"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			local := onlyLocal(t)
			b := newTestNode(t, Config{Local: local, Admission: tt.listener})
			a := newTestNode(t, Config{Local: local, Admission: tt.dialer})
			waitLocal(t, a, b.ID())
			err := a.Connect(testContext(t), b.ID())
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Here != tt.here {
				t.Errorf("Connect = %v, want a RefusedError, here: %v", err, tt.here)
			}
			if c := append(a.Connections(), b.Connections()...); len(c) > 0 {
				t.Errorf("connections: %v", c)
			}
		})
	}
}

// A stream without a listener says so when it is read.
func TestLocalWithoutAListener(t *testing.T) {
	a, b := newTestPair(t, onMachine)
	s, err := a.Dial(testContext(t), b.ID(), "/none/1")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Read(make([]byte, 1))
	checkIs(t, "Read", err, ErrNoListener)
	_, err = a.Ask(testContext(t), b.ID(), "/none/1", nil)
	checkIs(t, "Ask", err, ErrNoListener)
}

// An Ask is the same on all paths for both ends.
func TestAsk(t *testing.T) {
	onEachWay := func(t *testing.T, test func(*testing.T, *Node, *Node)) {
		for _, tt := range ways {
			t.Run(tt.name, func(t *testing.T) {
				from, to := newTestPair(t, tt.listen)
				test(t, from, to)
			})
		}
		t.Run("self", func(t *testing.T) {
			n := newTestNode(t, Config{})
			test(t, n, n)
		})
	}
	onEachWay(t, func(t *testing.T, from, to *Node) {
		l, err := to.Listen("/ask/1")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for refuse := false; ; refuse = true {
				s, err := l.AcceptStream()
				if err != nil {
					return
				}
				q := make([]byte, len("question"))
				if _, err := io.ReadFull(s, q); err != nil || string(q) != "question" {
					t.Errorf("the question is %q, %v", q, err)
				}
				if refuse {
					_ = s.Refuse([]byte("answer"))
					continue
				}
				if err := s.Answer([]byte("answer")); err != nil {
					t.Error(err)
				}
				_, _ = io.WriteString(s, " and more")
				s.Close()
			}
		}()
		for _, want := range []string{"answer and more", "answer"} {
			s, err := from.Ask(testContext(t), to.ID(), "/ask/1", []byte("question"))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(s); err != nil || string(got) != want {
				t.Errorf("ReadAll = %q, %v, want %q", got, err, want)
			}
			s.Close()
		}
	})
}

// A hidden node dials others and is seen by none before it appears.
func TestHidden(t *testing.T) {
	local := onlyLocal(t)
	a := newTestNode(t, Config{Local: local})
	hidden := *local
	hidden.Hidden = true
	b := newTestNode(t, Config{Local: &hidden})
	if err := b.Connect(testContext(t), a.ID()); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(a.LocalPeers(), b.ID()) {
		t.Error("a hidden node is seen")
	}
	if err := b.Appear(); err != nil {
		t.Fatal(err)
	}
	waitLocal(t, a, b.ID())
}

// A directory that is named has to be of use; without the user's own a node runs.
func TestLocalDirectoryOfNoUse(t *testing.T) {
	runtime := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	dir := filepath.Join(runtime, "p2pnode")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{Local: &Local{Dir: dir, Secret: []byte("s")}})
	checkIs(t, "New", err, ErrNoLocal)
	checkIs(t, "New", err, unixsock.ErrUnsafeDirectory)
	n := newTestNode(t, Config{Listen: addrs("/ip4/127.0.0.1/tcp/0"), Local: &Local{Secret: []byte("s")}})
	got, err := n.Local()
	checkIs(t, "Local", err, unixsock.ErrUnsafeDirectory)
	if got != "" {
		t.Errorf("Local() = %q", got)
	}
}

// A socket that somebody removes is made again, and status can tell.
func TestLocalSocketIsRemoved(t *testing.T) {
	local := onlyLocal(t)
	a, b := newTestNode(t, Config{Local: local}), newTestNode(t, Config{Local: local})
	waitLocal(t, b, a.ID())
	files, err := filepath.Glob(filepath.Join(local.Dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "both sockets are made again", func() bool { return a.LocalRemade() > 0 && b.LocalRemade() > 0 })
	// Where the system tells of no changes b still knows the old one for a second.
	until(t, "the new one is found", func() bool { return b.Connect(testContext(t), a.ID()) == nil })
}

// What is copied between a stream and a TCP connection goes through the kernel, and
// ends when the stream was ended.
func TestCopyWithTCP(t *testing.T) {
	a, b := newTestPair(t, onMachine)
	near, far := openStream(t, a, b)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	data := make([]byte, 1<<20)
	go func() {
		_, _ = client.Write(data)
		_ = client.(*net.TCPConn).CloseWrite()
	}()
	go func() {
		if n, err := io.Copy(near, server); err != nil || n != int64(len(data)) {
			t.Errorf("Copy from TCP = %d, %v", n, err)
		}
		_ = near.CloseWrite()
	}()
	go func() {
		_, _ = io.Copy(far, far)
		far.Close()
	}()
	got := make(chan int, 1)
	go func() {
		b, _ := io.ReadAll(client)
		got <- len(b)
	}()
	if n, err := io.Copy(server, near); err != nil || n != int64(len(data)) {
		t.Errorf("Copy to TCP = %d, %v", n, err)
	}
	server.Close()
	if n := <-got; n != len(data) {
		t.Errorf("%d bytes came back", n)
	}
}

// libp2p protocols of one's own reach a peer by its socket.
func TestLocalHost(t *testing.T) {
	local := onlyLocal(t)
	a, b := newTestNode(t, Config{Local: local}), newTestNode(t, Config{Local: local})
	waitLocal(t, a, b.ID())
	b.Host().SetStreamHandler("/own/1", func(s network.Stream) {
		_, _ = io.WriteString(s, "word")
		s.Close()
	})
	s, err := a.Host().NewStream(testContext(t), b.ID(), "/own/1")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err != nil || string(got) != "word" {
		t.Errorf("ReadAll = %q, %v", got, err)
	}
	if err := b.Host().Connect(context.Background(), peer.AddrInfo{ID: a.ID()}); err != nil {
		t.Error(err)
	}
}
