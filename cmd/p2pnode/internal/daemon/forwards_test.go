package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/overlaytest"
	"github.com/p2pnode/p2pnode/p2p"
)

func wantCode(t *testing.T, call string, err error, code control.Code) {
	t.Helper()
	var answered *control.Error
	if !errors.As(err, &answered) || answered.Code != code {
		t.Errorf("%s = %v, want the code %s", call, err, code)
	}
}

func TestExposeForwardAndBack(t *testing.T) {
	nodes := overlaytest.New(t, 2)
	alice, bob := serve(t, nodes[0]), serve(t, nodes[1])
	ctx := testContext(t)
	target := echo(t)
	if x, err := alice.Expose(ctx, "web", target); err != nil || x.Target != target || x.Service != "web" {
		t.Fatalf("Expose = %+v, %v, want web at %s", x, err, target)
	}
	f, err := bob.Forward(ctx, "0", "node0/web")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", f.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "ping"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "got ping" {
		t.Errorf("through the forward = %q, %v, want got ping", got, err)
	}
	n, err := bob.Status(ctx)
	if err != nil || len(n.Forwards) != 1 || n.Forwards[0].Sent != 4 || n.Forwards[0].Received != 8 || n.Forwards[0].Total != 1 {
		t.Errorf("Status = %+v, %v, want a forward with 4 bytes out and 8 in", n, err)
	}
	if err := bob.Unforward(ctx, f.Listen); err != nil {
		t.Errorf("Unforward = %v", err)
	}
	if _, err := net.Dial("tcp", f.Listen); err == nil {
		t.Error("Dial after Unforward = nil, want an error")
	}
	if err := alice.Unexpose(ctx, "web"); err != nil {
		t.Errorf("Unexpose = %v", err)
	}
	_, err = bob.Dial(ctx, "node0/web")
	wantCode(t, "Dial after Unexpose", err, control.CodeNoService)
}

// Of many who expose one name at the same time one does it, and it can be taken
// back by whoever comes next.
func TestConcurrentExposeOfOneName(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	ctx := testContext(t)
	for range 4 {
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { _, errs[i] = s.Expose(ctx, "web", "127.0.0.1:1") })
		}
		wg.Wait()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
				continue
			}
			wantCode(t, "Expose", err, control.CodeExists)
		}
		if n, err := s.Status(ctx); done != 1 || err != nil || len(n.Exposed) != 1 {
			t.Errorf("%d of %d exposed it, Status = %+v, %v, want one", done, len(errs), n.Exposed, err)
		}
		if err := s.Unexpose(ctx, "web"); err != nil {
			t.Fatalf("Unexpose = %v", err)
		}
	}
}

func TestUnforwardByOtherSpelling(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	ctx := testContext(t)
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, tt := range []struct {
		name, listen, end string // PORT is a free one
	}{
		{"port", "PORT", "PORT"},
		{"port and then address", "PORT", "127.0.0.1:PORT"},
		{"address and then port", "127.0.0.1:PORT", "PORT"},
		{"address with a zero too many", "127.0.0.1:PORT", "127.0.0.1:0PORT"},
		{"name", "localhost:PORT", "localhost:PORT"},
		{"all interfaces", "0.0.0.0:PORT", "0.0.0.0:PORT"},
		{"IPv6", "[::1]:PORT", "[0:0::1]:PORT"},
		{"unix socket", "unix:" + dir + "/s", "unix:" + dir + "/s"},
		{"unix socket that ends as a port", "unix:" + dir + "/s:0", "unix:" + dir + "/s:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if strings.HasPrefix(tt.listen, "[::1]") && !hasIPv6() {
				t.Skip("this machine has no IPv6")
			}
			port := freePort(t)
			f, err := s.Forward(ctx, strings.ReplaceAll(tt.listen, "PORT", port), "/web")
			for told := (*control.Error)(nil); errors.As(err, &told) && told.Code == control.CodeInUse; {
				port = freePort(t) // another program has taken it meanwhile
				f, err = s.Forward(ctx, strings.ReplaceAll(tt.listen, "PORT", port), "/web")
			}
			if err != nil {
				t.Fatal(err)
			}
			end := strings.ReplaceAll(tt.end, "PORT", port)
			if err := s.Unforward(ctx, end); err != nil {
				t.Errorf("Unforward(%s) of %s = %v", end, f.Listen, err)
			}
			wantCode(t, "Unforward again", s.Unforward(ctx, end), control.CodeNotFound)
		})
	}
}

// Port 0 stands for a free port each time, and names none.
func TestUnforwardOfPortZero(t *testing.T) {
	s := serve(t, overlaytest.New(t, 1)[0])
	ctx := testContext(t)
	f, err := s.Forward(ctx, "0", "/web")
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "Unforward(0)", s.Unforward(ctx, "0"), control.CodeNotFound)
	if err := s.Unforward(ctx, f.Listen); err != nil {
		t.Errorf("Unforward(%s) = %v", f.Listen, err)
	}
}

// What is set up while the node goes down is not left behind.
func TestNothingIsSetUpAfterTheEnd(t *testing.T) {
	d := newDaemon(t.Context(), overlaytest.New(t, 1)[0], Config{})
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if _, err := d.expose(control.Exposed{Service: "web", Target: "3000"}); !errors.Is(err, errDown) {
		t.Errorf("expose = %v, want %v", err, errDown)
	}
	if _, err := d.forward(control.Forward{Listen: "unix:" + filepath.Join(dir, "s"), Target: "/web"}); !errors.Is(err, errDown) {
		t.Errorf("forward = %v, want %v", err, errDown)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("ReadDir = %v, %v, want no socket", files, err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func TestCodes(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want control.Code
	}{
		{overlay.ErrBadTarget, control.CodeBadRequest},
		{badRequestf("nonsense"), control.CodeBadRequest},
		{&p2p.DialError{Err: p2p.ErrOnlyRelay}, control.CodeOnlyRelay},
		{fmt.Errorf("%w: %w", overlay.ErrNoProvider, p2p.ErrOnlyRelay), control.CodeOnlyRelay},
		{overlay.ErrUnknownMember, control.CodeUnknownMember},
		{&overlay.AmbiguousError{Name: "bob"}, control.CodeAmbiguous},
		{overlay.ErrNoService, control.CodeNoService},
		{errors.Join(overlay.ErrNoProvider, overlay.ErrNoService), control.CodeNoProvider},
		{overlay.ErrNotPermitted, control.CodeNotPermitted},
		{overlay.ErrNotMember, control.CodeNotMember},
		{errors.Join(&p2p.DialError{}, credential.ErrRevoked), control.CodeRevoked},
		{errors.Join(overlay.ErrNotMember, credential.ErrExpired), control.CodeExpired},
		{credential.ErrNotYetValid, control.CodeBadClock},
		{credential.ErrWrongMesh, control.CodeOtherMesh},
		{overlay.ErrInviteUsed, control.CodeInviteUsed},
		{overlay.ErrNoAdmin, control.CodeNoAdmin},
		{credential.ErrUnredeemed, control.CodeNoAdmin},
		{overlay.ErrUnknownInvite, control.CodeUnknownInvite},
		{fmt.Errorf("%w: %w", overlay.ErrBadRule, credential.ErrInvalid), control.CodeBadRequest},
		{overlay.ErrBusy, control.CodeBusy},
		{overlay.ErrNotAdmin, control.CodeNotAdmin},
		{overlay.ErrServiceExists, control.CodeExists},
		{os.ErrPermission, control.CodeDenied},
		{context.DeadlineExceeded, control.CodeUnreachable},
		{errNotExposed, control.CodeNotFound},
		{errNoForward, control.CodeNotFound},
		{io.ErrNoProgress, control.CodeOther},
	} {
		if code, status := codeOf(errors.Join(tt.err)); code != tt.want || status < 400 {
			t.Errorf("codeOf(%v) = %s, %d, want %s", tt.err, code, status, tt.want)
		}
	}
}
