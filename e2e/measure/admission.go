package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// admissionRole makes this program one end of connections that are admitted.
const admissionRole = "admission-end"

const (
	admissions  = 500                   // connections by which CPU is divided
	oneWay      = 20 * time.Millisecond // how long bytes are held up
	noAdmission = "none"                // in place of the mesh's root key
)

// measureAdmission takes what admission adds to a connection: round trips, by
// the time it takes over a slow line, and CPU, by what processes have used once
// they end. Both are of the connection with admission less that without.
func measureAdmission(rounds, connections int) measurement {
	return func(ctx context.Context, _ *site) ([]figure, error) {
		root, err := credential.NewRoot(rand.Reader)
		if err != nil {
			return nil, err
		}
		mesh := hex.EncodeToString(root.Key())
		trips, err := roundTrips(ctx, mesh, rounds)
		if err != nil {
			return nil, err
		}
		cpu, err := admissionCPU(ctx, mesh, connections)
		return append(trips, cpu...), err
	}
}

// credentialAdmission admits who shows a credential of the mesh, as overlay does
// once it has one.
type credentialAdmission struct {
	mesh  credential.MeshID
	proof []byte
}

func (a *credentialAdmission) Proof(peer.ID) []byte { return a.proof }

func (a *credentialAdmission) Check(remote peer.ID, proof []byte) error {
	m, err := credential.Verify(proof, a.mesh, time.Now())
	if err == nil && m.ID != remote {
		err = errors.New("the credential is another's")
	}
	return err
}

// newEnd runs a node with the credential of one who joined a mesh by an invite,
// or without admission. The mesh is its root's key.
func newEnd(mesh string) (*p2p.Node, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	at, err := multiaddr.NewMultiaddr("/ip4/127.0.0.1/tcp/0")
	if err != nil {
		return nil, err
	}
	c := p2p.Config{Key: key, Listen: []multiaddr.Multiaddr{at}}
	if mesh == noAdmission {
		return p2p.New(c)
	}
	if c.Admission, err = newAdmission(mesh, key); err != nil {
		return nil, err
	}
	return p2p.New(c)
}

func newAdmission(mesh string, key ed25519.PrivateKey) (p2p.Admission, error) {
	raw, err := hex.DecodeString(mesh)
	if err != nil {
		return nil, err
	}
	root, err := credential.RootFromKey(raw)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	inv, err := root.Issuer().IssueInvite(rand.Reader, now, credential.Terms{NotAfter: now.Add(time.Hour)}, nil)
	if err != nil {
		return nil, err
	}
	c, err := inv.IssueNode(rand.Reader, now, key.Public().(ed25519.PublicKey), "member")
	if err != nil {
		return nil, err
	}
	return &credentialAdmission{root.Mesh(), c.Marshal()}, nil
}

// roundTrips compares connecting over a line on which bytes take their time.
func roundTrips(ctx context.Context, mesh string, rounds int) ([]figure, error) {
	var took [2]figure
	for i, m := range []string{noAdmission, mesh} {
		took[i] = figure{Name: fmt.Sprintf("connect at %v one way, %s admission", oneWay, []string{"without", "with"}[i]), Unit: "ms"}
		for range rounds {
			d, err := slowConnect(ctx, m)
			if err != nil {
				return nil, err
			}
			took[i].addTime(d)
		}
	}
	rtt := 2 * float64(oneWay.Milliseconds())
	trips := figure{Name: "round trips that admission adds to a connection", Unit: "rtt"}
	trips.Values = []float64{(took[1].percentile(1) - took[0].percentile(1)) / rtt} // a busy machine only adds
	return append(took[:], trips), nil
}

// slowConnect returns how long two new nodes take to be connected.
func slowConnect(ctx context.Context, mesh string) (time.Duration, error) {
	from, err := newEnd(mesh)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	to, err := newEnd(mesh)
	if err != nil {
		return 0, err
	}
	defer to.Close()
	line, err := slowLine(fmt.Sprint("127.0.0.1:", to.Port()))
	if err != nil {
		return 0, err
	}
	defer line.Close()
	at, err := multiaddr.NewMultiaddr(fmt.Sprint("/ip4/127.0.0.1/tcp/", line.Addr().(*net.TCPAddr).Port))
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = from.Connect(ctx, to.ID(), at)
	return time.Since(began), err
}

// slowLine listens for connections and carries them on to an address.
func slowLine(to string) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			go carrySlowly(near, far)
			go carrySlowly(far, near)
		}
	}()
	return l, nil
}

// carrySlowly passes on what it reads after oneWay, until either end is closed.
func carrySlowly(from, to net.Conn) {
	type piece struct {
		due  time.Time
		data []byte
	}
	line := make(chan piece, 1024)
	go func() {
		defer to.Close()
		for p := range line {
			<-time.After(time.Until(p.due))
			if _, err := to.Write(p.data); err != nil {
				from.Close()
			}
		}
	}()
	defer close(line)
	for {
		buf := make([]byte, 64<<10)
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		line <- piece{time.Now().Add(oneWay), buf[:n]}
	}
}

// admissionCPU has two processes make many connections with each other, with and
// without admission. What they need to start is in both.
func admissionCPU(ctx context.Context, mesh string, connections int) ([]figure, error) {
	all := []figure{
		{Name: "CPU of an admission, the end that dials", Unit: "ms"},
		{Name: "CPU of an admission, the end that is dialed", Unit: "ms"},
		{Name: "CPU of an admission, both ends", Unit: "ms"},
	}
	for range 3 {
		var used [2][2]time.Duration
		for i, m := range []string{noAdmission, mesh} {
			var err error
			if used[i], err = connectMany(ctx, m, connections); err != nil {
				return nil, err
			}
		}
		dials, dialed := used[1][0]-used[0][0], used[1][1]-used[0][1]
		for i, d := range []time.Duration{dials, dialed, dials + dialed} {
			all[i].addTime(d / time.Duration(connections))
		}
	}
	return all, nil
}

// connectMany returns the CPU time of the process that dials and of the other.
func connectMany(ctx context.Context, mesh string, connections int) (used [2]time.Duration, err error) {
	self, err := os.Executable()
	if err != nil {
		return used, err
	}
	accepts := exec.CommandContext(ctx, self, admissionRole, mesh)
	accepts.Stderr = os.Stderr
	stdin, err := accepts.StdinPipe()
	if err != nil {
		return used, err
	}
	stdout, err := accepts.StdoutPipe()
	if err != nil {
		return used, err
	}
	if err := accepts.Start(); err != nil {
		return used, err
	}
	at, err := bufio.NewReader(stdout).ReadString('\n')
	dials := exec.CommandContext(ctx, self, admissionRole, mesh, strings.TrimSpace(at), fmt.Sprint(connections))
	dials.Stderr = os.Stderr
	if err == nil {
		err = dials.Run()
	}
	if err = errors.Join(err, stdin.Close(), accepts.Wait()); err != nil {
		return used, err
	}
	for i, p := range []*os.ProcessState{dials.ProcessState, accepts.ProcessState} {
		used[i] = p.UserTime() + p.SystemTime()
	}
	return used, nil
}

// admissionEnd is one of the two processes: without more arguments than the mesh
// the one that is dialed, which prints where, and ends with its input.
func admissionEnd(args []string) error {
	n, err := newEnd(args[0])
	if err != nil {
		return err
	}
	defer n.Close()
	if len(args) == 1 {
		fmt.Printf("/ip4/127.0.0.1/tcp/%d/p2p/%v\n", n.Port(), n.ID())
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	to, err := peer.AddrInfoFromString(args[1])
	if err != nil {
		return err
	}
	var count int
	if _, err := fmt.Sscan(args[2], &count); err != nil {
		return err
	}
	for range count {
		if err := connectOnce(n, to); err != nil {
			return err
		}
	}
	return nil
}

// connectOnce connects, does what follows in any case, and hangs up.
func connectOnce(n *p2p.Node, to *peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Connect(ctx, to.ID, to.Addrs...); err != nil {
		return err
	}
	return errors.Join(n.Identified(ctx, to.ID), n.Disconnect(to.ID))
}
