//go:build !linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// There are no labs here: missing says so before anything else is called.

var errOther = errors.New("network namespaces are of Linux")

func missing() error {
	return fmt.Errorf("%w: network namespaces need Linux, and root, and this is %s", ErrUnavailable, runtime.GOOS)
}

func sweep() error { return errOther }

type namespace struct{ name string }

func newNamespace(string) (*namespace, error) { return nil, errOther }

func removeNamespaces(...string) error { return errOther }

func cable(*namespace, string, *namespace, string, string) error { return errOther }

func (*namespace) close()                                {}
func (*namespace) do(func() error) error                 { return errOther }
func (*namespace) sysctl(...string) error                { return errOther }
func (*namespace) nft(string) error                      { return errOther }
func (*namespace) bridge(string) error                   { return errOther }
func (*namespace) up(string) error                       { return errOther }
func (*namespace) live(string) error                     { return errOther }
func (*namespace) anchor(string) error                   { return errOther }
func (*namespace) segment(string, bool) error            { return errOther }
func (*namespace) down(string) error                     { return errOther }
func (*namespace) remove(string) error                   { return errOther }
func (*namespace) plug(string, string) error             { return errOther }
func (*namespace) give(string, *namespace) error         { return errOther }
func (*namespace) address(string, ...netip.Prefix) error { return errOther }
func (*namespace) local(...netip.Prefix) error           { return errOther }
func (*namespace) route(netip.Prefix, netip.Addr) error  { return errOther }
func (*namespace) forget() error                         { return errOther }
func (*namespace) shape(string, int64, int) error        { return errOther }
func (*namespace) tap(string, string) (*os.File, error)  { return nil, errOther }

func (*namespace) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Err = errOther
	return cmd
}

type alarm struct{}

func newAlarm() (*alarm, error)        { return nil, errOther }
func (*alarm) set(time.Duration) error { return errOther }
func (*alarm) wait() error             { return errOther }
func (*alarm) close() error            { return errOther }
