package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpproxy"
)

// runCommand runs a program that reaches services by host name.
func runCommand(e *env) *cobra.Command {
	var others bool
	cmd := &cobra.Command{
		Use:   "run [--] COMMAND [ARGUMENT...]",
		Short: "Run a program that reaches services by host name",
		Long: `Run a program with a proxy of its own, which is named by the variables that most
programs look at: http_proxy, https_proxy, all_proxy, and the same in capitals. For the
program web.alice.mesh is alice's service web, and web.mesh that of the nearest member.
Other hosts are dialled straight from this machine, or refused with --others=false.

Signals are passed on, and the program's exit status is that of p2pnode: 128 and the
signal's number if a signal ended it, 127 if there is no such program, 126 if it can't
be run.`,
		Example: `  p2pnode run curl http://web.alice.mesh/
  p2pnode run -- git clone http://git.mesh/project
  p2pnode run --others=false -- sh`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("run takes a program to run; usage: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error { return e.runBehindProxy(c, others, args) })
		},
	}
	cmd.Flags().BoolVar(&others, "others", true, "dial hosts that are not of the mesh too, straight from this machine")
	cmd.Flags().SetInterspersed(false) // what follows the program is the program's
	return cmd
}

// runBehindProxy runs a program to its end, and returns how that was.
func (e *env) runBehindProxy(c *control.Client, others bool, args []string) error {
	config := forward.ProxyConfig{
		Hint: func(err error) string {
			_, hint := advise(err)
			return hint
		},
		Logger: e.logger(),
	}
	if others {
		config.Others = new(net.Dialer)
		e.warnOfOtherProxy()
	}
	p, err := forward.NewProxy(hostDialer{c}, forward.Address{}, config)
	if err != nil {
		return err
	}
	defer p.Close()
	program := exec.Command(args[0], args[1:]...)
	program.Stdin, program.Stdout, program.Stderr = e.stdin, e.stdout, e.stderr
	program.Env = append(program.Environ(), e.proxyEnvironment(p.Addr().String())...)
	signals := catchSignals()
	defer signals.stop()
	if err := program.Start(); err != nil {
		return cannotRun(err)
	}
	signals.passTo(program.Process)
	err = program.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return &statusError{status: exitStatus(exit.ProcessState)}
	}
	return err
}

// The exit statuses that shells have for a program that is not run.
const (
	exitCannotRun = 126
	exitNoProgram = 127
)

func cannotRun(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return &statusError{exitNoProgram, err}
	}
	return &statusError{exitCannotRun, err}
}

// proxyEnvironment returns the variables that name a proxy.
func (e *env) proxyEnvironment(addr string) []string {
	http, socks := "http://"+addr, "socks5h://"+addr
	vars := []string{
		"http_proxy=" + http, "HTTP_PROXY=" + http, "https_proxy=" + http, "HTTPS_PROXY=" + http,
		"all_proxy=" + socks, "ALL_PROXY=" + socks,
	}
	switch direct := e.noProxy(); {
	case direct == "":
		const here = "localhost,127.0.0.1,::1"
		vars = append(vars, "no_proxy="+here, "NO_PROXY="+here)
	case skipsMesh(direct):
		e.warn("NO_PROXY is " + direct + ": the program will not look for .mesh through the proxy")
	}
	return vars
}

func (e *env) noProxy() string { return cmp.Or(e.getenv("NO_PROXY"), e.getenv("no_proxy")) }

func skipsMesh(noProxy string) bool {
	c := httpproxy.Config{HTTPProxy: "proxy", NoProxy: noProxy}
	by, err := c.ProxyFunc()(&url.URL{Scheme: "http", Host: "web.member.mesh"})
	return err == nil && by == nil
}

// warnOfOtherProxy says that the proxy that the environment names will not be used.
func (e *env) warnOfOtherProxy() {
	if other := e.proxy(); other != "" {
		e.warn("other hosts are dialled straight, and not through " + other)
	}
}

// A hostDialer opens streams through the running node.
type hostDialer struct{ node *control.Client }

func (d hostDialer) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	t, err := overlay.ParseHost(addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	conn, err := d.node.Dial(ctx, t.String())
	if err != nil {
		return nil, err // not conn, which is a nil *control.Conn in a net.Conn
	}
	return conn, nil
}
