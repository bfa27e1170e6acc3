package forward

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A halfTold wraps nothing where a cause might be, as libp2p's StreamError does.
type halfTold struct{}

func (halfTold) Error() string   { return "stream reset by peer" }
func (halfTold) Unwrap() []error { return []error{errors.New("stream reset"), nil} }

func TestReasons(t *testing.T) {
	errNone := errors.New("no such member")
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	var r reasons
	for _, err := range []error{
		nil,
		fmt.Errorf("dial a/web: %w: a", errNone),
		fmt.Errorf("dial b/web: %w: b", errNone),
		fmt.Errorf("dial 127.0.0.1:80: %w", refused),
		fmt.Errorf("%w: %w", errNone, errors.Join(errors.New("first"), refused)),
		context.Canceled,
		fmt.Errorf("ended: %w", context.Canceled),
		errors.New(strings.Repeat("x", 1000)),
		halfTold{},
	} {
		r.add(err)
	}
	want := map[string]uint64{"no such member": 2, "connection refused": 2, "stream reset": 1, "other": 1}
	if got := r.all(); !maps.Equal(got, want) {
		t.Errorf("all() = %v, want %v", got, want)
	}
	for i := range 1000 {
		r.add(fmt.Errorf("reason %d", i))
	}
	got := r.all()
	if len(got) > maxReasons || got["other"] != 1001-uint64(maxReasons-4) {
		t.Errorf("after 1000 reasons there are %d, %d of them others, want %d at most and the rest others", len(got), got["other"], maxReasons)
	}
}
