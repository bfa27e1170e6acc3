package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
)

// streamThroughNode returns a stream that a command has opened through a node, and
// written to, and its other end.
func streamThroughNode(t testing.TB) (*served, *control.Conn, *overlay.Conn) {
	t.Helper()
	nodes := overlaytest.New(t, 2)
	l := listen(t, nodes[0], "web")
	s := serve(t, nodes[1])
	conn, err := s.Dial(testContext(t), "node0/web")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream := accept(t, l)
	if _, err := io.WriteString(conn, "part"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	return s, conn, stream
}

// When the node ends, the streams that it carries break at both ends.
func TestStreamsEndWithTheNode(t *testing.T) {
	s, conn, stream := streamThroughNode(t)
	s.stop()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, control.ErrBroken) {
		t.Errorf("Read at the command = %v, want %v", err, control.ErrBroken)
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read at the service = %v, want an error that is no end", err)
	}
	s.wait(t)
}

// A command that is killed has not ended its stream.
func TestKilledCommandIsNoEnd(t *testing.T) {
	_, conn, stream := streamThroughNode(t)
	conn.Conn.Close() // as the system does for a process that is gone
	if _, err := stream.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read at the service = %v, want an error that is no end", err)
	}
}

func TestHalfCloseThroughTheNode(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	l := listen(t, nodes[0], "web")
	s := serve(t, nodes[1])
	conn, err := s.Dial(testContext(t), "/web")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.Path == "" {
		t.Error("Path is empty")
	}
	go func() {
		_, _ = io.WriteString(conn, "ping")
		_ = conn.CloseWrite()
	}()
	stream := accept(t, l)
	if got, err := io.ReadAll(stream); err != nil || string(got) != "ping" {
		t.Fatalf("ReadAll at the service = %q, %v, want ping", got, err)
	}
	if _, err := io.WriteString(stream, "pong"); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "pong" {
		t.Errorf("ReadAll at the command = %q, %v, want pong", got, err)
	}
}

// Down returns when all has ended, so that the directory can be used again.
func TestDownWaitsForTheEnd(t *testing.T) {
	mesh := overlaytest.New(t, 1)[0]
	s := serve(t, mesh)
	ctx := testContext(t)
	f, err := s.Forward(ctx, "0", "/web")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Down(ctx); err != nil {
		t.Fatalf("Down = %v", err)
	}
	if _, err := mesh.Listen("web"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Listen after Down = %v, want %v", err, net.ErrClosed)
	}
	if _, err := net.Dial("tcp", f.Listen); err == nil {
		t.Error("Dial after Down = nil, want that the forward has ended")
	}
	if files, err := os.ReadDir(s.dir); err != nil || len(files) > 0 {
		t.Errorf("ReadDir after Down = %v, %v, want no socket", files, err)
	}
	if _, err := control.Open(s.dir); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("Open after Down = %v, want %v", err, control.ErrNotRunning)
	}
	s.wait(t)
}

func TestDownIsAnsweredLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDaemon(t.Context(), nil, Config{})
		ended := make(chan error, 1)
		go func() { ended <- d.goDown() }()
		synctest.Wait()
		if d.ctx.Err() == nil {
			t.Error("goDown has not begun to end the node")
		}
		select {
		case err := <-ended:
			t.Errorf("goDown = %v before the end", err)
		default:
		}
		d.downErr = syscall.ENOSPC
		close(d.down)
		if err := <-ended; !errors.Is(err, errEndedBadly) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("goDown = %v, want %v and why", err, errEndedBadly)
		}
	})
}

// Many may ask at once, and each is answered, or finds the node gone.
func TestDownByMany(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() { errs <- s.Down(testContext(t)) }()
	}
	answered := 0
	for range cap(errs) {
		if err := <-errs; err == nil {
			answered++
		}
	}
	if answered == 0 {
		t.Error("Down = an error for all, want nil for those who came first")
	}
	s.wait(t)
}

// What a request meets because the node goes down is told as that, unless it is
// about the end itself.
func TestAnswersWhileTheNodeEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"request that was cut off", net.ErrClosed, errDown.Error()},
		{"end that went badly", fmt.Errorf("%w: %w", errEndedBadly, syscall.ENOSPC), "the node has ended, but not all went well: no space left on device"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDaemon(t.Context(), nil, Config{})
			d.stop()
			w := httptest.NewRecorder()
			d.answer(func(*http.Request) (any, error) { return nil, tt.err })(w, httptest.NewRequest(http.MethodPost, "/v1/ping", nil))
			var got control.Error
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Text != tt.want {
				t.Errorf("answer = %s, want %q", w.Body, tt.want)
			}
		})
	}
}

func TestMembersAndInvite(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	alice, bob := serve(t, nodes[0]), serve(t, nodes[1])
	ctx := testContext(t)
	members, err := bob.Members(ctx)
	if err != nil || len(members) != 2 {
		t.Fatalf("Members = %+v, %v, want two", members, err)
	}
	for _, m := range members {
		if m.Version != control.Version || m.Self != (m.Name == "node1") || !m.Up || m.Path == "" || m.Roles == "" {
			t.Errorf("Members has %+v", m)
		}
	}
	if pong, err := bob.Ping(ctx, "node0"); err != nil || pong.Member != "node0" || pong.RTT <= 0 {
		t.Errorf("Ping = %+v, %v", pong, err)
	}
	inv, err := alice.Invite(ctx, control.InviteOptions{Name: "carol", Roles: "member"})
	if err != nil || inv.Invite == "" || inv.Expires.IsZero() {
		t.Errorf("Invite = %+v, %v", inv, err)
	}
	_, err = bob.Invite(ctx, control.InviteOptions{})
	wantCode(t, "Invite by a member", err, control.CodeNotAdmin)
}
