package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/overlay"
	"golang.org/x/sync/errgroup"
)

// serveRole makes this program the node that accepts the streams.
const serveRole = "serve-streams"

const (
	manyStreams = 5000
	atOnce      = 64 // streams being opened
)

// measureStreams opens many streams between two processes, through the library,
// each proven by a byte there and back.
func measureStreams(ctx context.Context, _ *site) ([]figure, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	server := exec.CommandContext(ctx, self, serveRole)
	server.Stderr = os.Stderr
	stdin, err := server.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := server.Start(); err != nil {
		return nil, err
	}
	defer func() {
		stdin.Close()
		_ = server.Wait()
	}()
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		return nil, fmt.Errorf("no invite: %w", lines.Err())
	}
	mesh, err := overlay.Join(ctx, lines.Text(), overlay.Config{Name: "client"})
	if err != nil {
		return nil, err
	}
	defer mesh.Close()
	memory := func() (heap, resident float64, err error) {
		fmt.Fprintln(stdin, "memory")
		if !lines.Scan() {
			return 0, 0, fmt.Errorf("no answer: %w", lines.Err())
		}
		if _, err := fmt.Sscan(lines.Text(), &heap); err != nil {
			return 0, 0, err
		}
		resident, _, err = memoryOf(server.Process.Pid)
		return heap, resident, err
	}
	return streamRounds(ctx, mesh, memory)
}

// A moment is when memory is looked at.
type moment struct{ heap, resident figure }

func newMoment(when string) *moment {
	return &moment{
		figure{Name: "heap and stacks of the accepting node " + when, Unit: "MB"},
		figure{Name: "resident memory of the accepting node " + when, Unit: "MB"},
	}
}

// streamRounds measures opening three times. The first time also grows what is
// kept for later, so memory is compared with what was there after it.
func streamRounds(ctx context.Context, mesh *overlay.Mesh, memory func() (heap, resident float64, err error)) ([]figure, error) {
	rate := figure{Name: fmt.Sprintf("streams opened a second, up to %d at once", manyStreams), Unit: "/s"}
	before, held, after := newMoment("before"), newMoment(fmt.Sprintf("with %d streams", manyStreams)), newMoment("after they are closed")
	look := func(m *moment) error {
		heap, resident, err := memory()
		m.heap.Values = append(m.heap.Values, heap)
		m.resident.Values = append(m.resident.Values, resident)
		return err
	}
	for range 3 {
		if err := look(before); err != nil {
			return nil, err
		}
		begin := time.Now()
		streams, err := openMany(ctx, mesh, manyStreams)
		if err != nil {
			return nil, err
		}
		rate.Values = append(rate.Values, manyStreams/time.Since(begin).Seconds())
		err = look(held)
		for _, s := range streams {
			s.Close()
		}
		if err := errors.Join(err, look(after)); err != nil {
			return nil, err
		}
	}
	return []figure{rate, before.heap, held.heap, after.heap, before.resident, held.resident, after.resident}, nil
}

// openMany opens streams to the member that echoes. Those that were opened are
// returned with an error too, between others that are nil.
func openMany(ctx context.Context, mesh *overlay.Mesh, count int) ([]*overlay.Conn, error) {
	streams := make([]*overlay.Conn, count)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := range streams {
		g.Go(func() error {
			s, err := mesh.Dial(ctx, echoMember+"/"+echoService)
			if err != nil {
				return err
			}
			streams[i] = s
			b := []byte{1}
			if _, err := s.Write(b); err != nil {
				return err
			}
			_, err = io.ReadFull(s, b)
			return err
		})
	}
	return streams, g.Wait()
}

// serveStreams is the accepting node: it prints an invite, and then its memory
// whenever it is asked.
func serveStreams() error {
	mesh, err := overlay.Open(context.Background(), overlay.Config{Name: echoMember})
	if err != nil {
		return err
	}
	defer mesh.Close()
	if err := serveEcho(mesh); err != nil {
		return err
	}
	inv, err := mesh.Invite(overlay.InviteOptions{})
	if err != nil {
		return err
	}
	fmt.Println(inv.Text())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if strings.TrimSpace(lines.Text()) == "memory" {
			fmt.Println(settledHeap())
		}
	}
	return nil
}

// echoMember and echoService make up the target of the streams.
const (
	echoMember  = "server"
	echoService = "echo"
)

// serveEcho sends back what comes, until the mesh is closed.
func serveEcho(mesh *overlay.Mesh) error {
	l, err := mesh.Listen(echoService)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.AcceptConn()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 1))
			}()
		}
	}()
	return nil
}

// settledHeap returns what is in use once streams that are being closed are.
func settledHeap() float64 {
	last := 0.0
	for range 20 {
		<-time.After(100 * time.Millisecond)
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		now := float64(m.HeapInuse+m.StackInuse) / 1e6
		if last != 0 && now > last*0.99 && now < last*1.01 {
			return now
		}
		last = now
	}
	return last
}
