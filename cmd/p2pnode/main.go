package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/spf13/cobra"
)

// gcPercent has a node's garbage collected three times as often as Go does by
// itself. With a heap of a few megabytes that costs little, and it saves a
// quarter of the memory that each connection takes (e2e/measure memory).
const gcPercent = 30

// ballast is memory that the collector counts and that nobody touches, so that the
// kernel never gives it: with the 2 MB of a node that has few peers 30 % alone would
// be too little. A node that forwards short connections has its garbage collected a
// tenth as often, which is a tenth more of them, and may hold 4 MB more of it.
const ballast = 16 << 20

func main() {
	debug.SetGCPercent(gcPercent)
	held := make([]byte, ballast)
	code := run(hideInvites(os.Args[1:]))
	runtime.KeepAlive(held)
	os.Exit(code)
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once
	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	return e.run(ctx, args)
}

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// run carries out a command line and returns the exit status.
func (e *env) run(ctx context.Context, args []string) int {
	root := rootCommand(e)
	e.args = args
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if s := (*statusError)(nil); errors.As(err, &s) {
		if s.err != nil {
			e.report(s.err)
		}
		return s.status
	}
	if !e.begun {
		err = usageError{err} // of the command line: no command has begun
	}
	if ctx.Err() != nil && (errors.Is(err, context.Cause(ctx)) || errors.Is(err, context.Canceled)) {
		err = errInterrupted
	}
	e.report(err)
	if code, _ := advise(err); code == control.CodeBadRequest {
		return exitUsage
	}
	return exitFailed
}

// A statusError has p2pnode end with the exit status of another command, or with the
// one that says why there is none. It is reported if err is not nil.
type statusError struct {
	status int
	err    error
}

func (s *statusError) Error() string { return fmt.Sprintf("exit status %d: %v", s.status, s.err) }

var errInterrupted = errors.New("interrupted")

// A usageError is a request that makes no sense, whatever the state of things.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// isInvite tells whether an argument is an invite, which no error may repeat.
func isInvite(arg string) bool {
	return len(arg) > credential.MaxName && credential.LooksLikeInvite(arg)
}

// exactArgs is cobra's, with the command's usage in the error.
func exactArgs(n int) cobra.PositionalArgs {
	takes := [...]string{"no argument", "one argument", "two arguments"}[n]
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return usagef("%s takes %s, not %d; usage: %s", cmd.Name(), takes, len(args), cmd.UseLine())
	}
}

// noCommand is the error for a command that isn't, with those that it may stand
// for.
func noCommand(root *cobra.Command, name string) error {
	root.SuggestionsMinimumDistance = 2 // edits; what cobra takes where it asks by itself
	if near := root.SuggestionsFor(name); len(near) > 0 {
		return usagef("there is no command %q; did you mean %s?", name, strings.Join(near, " or "))
	}
	return usagef("there is no command %q; see p2pnode --help", name)
}

func rootCommand(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "p2pnode",
		Short: "A private mesh of processes: joined by one text, streams by name",
		Long: `p2pnode joins processes on any machines into a private mesh and opens direct
streams between them, by name. No account, no server, no root.

  p2pnode demo                     see it work: five nodes on this machine
  p2pnode up                       found a mesh, and get the line for the next machine
  p2pnode join INVITE              join it from there
  p2pnode expose web 3000          offer port 3000 to the mesh
  p2pnode forward 8080 alice/web   reach it at port 8080 here`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			if e.dir == "" && cmd.Flags().Changed("dir") {
				return usagef("--dir is empty")
			}
			if cmd.Name() != joinName && slices.ContainsFunc(args, isInvite) {
				return usagef(`an invite is a secret, and for "p2pnode join" alone; "p2pnode invite list" shows by which ID it is known`)
			}
			e.begun = true
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&e.dir, "dir", "", "the node's directory (default: $P2PNODE_DIR, or p2pnode in your configuration directory)")
	flags.BoolVar(&e.json, "json", false, "answer in JSON, one object a line")
	flags.BoolVarP(&e.verbose, "verbose", "v", false, "say on standard error what the node does")
	flags.BoolVar(&e.detached, detachedFlag, false, "")
	_ = flags.MarkHidden(detachedFlag) // it is there
	root.AddCommand(
		upCommand(e), joinCommand(e), inviteCommand(e), downCommand(e), leaveCommand(e), revokeCommand(e),
		statusCommand(e), peersCommand(e), whoisCommand(e), pingCommand(e), doctorCommand(e), whyCommand(e), idCommand(e),
		exposeCommand(e), unexposeCommand(e), allowCommand(e), denyCommand(e), accessCommand(e), forwardCommand(e), unforwardCommand(e), connectCommand(e),
		runCommand(e), proxyCommand(e), unproxyCommand(e),
		servicesCommand(e), configCommand(e), reloadCommand(e), waitCommand(e), logsCommand(e), systemdCommand(e),
		demoCommand(e), manCommand(e), versionCommand(e),
	)
	return root
}
