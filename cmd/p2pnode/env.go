package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/gologshim"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// dirVariable names the node's directory where --dir does not.
const dirVariable = "P2PNODE_DIR"

// An env is all that a command touches.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	args           []string
	begun          bool // the command line made sense, and a command runs

	// Of a process that runs in the background, else nil.
	log        io.Writer
	background *backgroundLog

	// Set by the flags that all commands have.
	dir     string
	json    bool
	verbose bool

	detached bool // this is the process in the background
}

// directory returns the node's directory as an absolute path.
func (e *env) directory() (string, error) {
	dir := e.dir
	if dir == "" {
		dir = e.getenv(dirVariable)
	}
	if dir == "" {
		config, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("find your configuration directory: %w; name the node's directory with --dir", err)
		}
		dir = filepath.Join(config, "p2pnode")
	}
	return filepath.Abs(dir)
}

// node returns a client of the node that runs on the directory.
func (e *env) node() (*control.Client, error) {
	dir, err := e.directory()
	if err != nil {
		return nil, err
	}
	return control.Open(dir)
}

// withNode runs f with a client of the running node.
func (e *env) withNode(f func(*control.Client) error) error {
	c, err := e.node()
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

func (e *env) logger() *slog.Logger {
	level, out := slog.LevelWarn, e.stderr
	if e.log != nil {
		level, out = slog.LevelInfo, e.log
	}
	if e.verbose {
		level = slog.LevelDebug
	}
	options := &slog.HandlerOptions{Level: level}
	if e.json {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// hushLibp2p keeps what libp2p logs by itself, which tells a user little, for
// --verbose.
func (e *env) hushLibp2p() {
	if !e.verbose {
		gologshim.SetDefaultHandler(slog.DiscardHandler)
	}
}

// warn says on standard error what is not a failure.
func (e *env) warn(text string) {
	if e.json {
		e.logger().Warn(text)
		return
	}
	fmt.Fprintf(e.stderr, "p2pnode: %s\n", text)
}

// end has the running node end something, and answers with a line of JSON, and with
// nothing as text.
func (e *env) end(kind, name string, f func(*control.Client) error) error {
	if err := e.withNode(f); err != nil || !e.json {
		return err
	}
	return json.NewEncoder(e.stdout).Encode(struct {
		Version int    `json:"v"`
		Ended   string `json:"ended"`
		Name    string `json:"name"`
	}{control.Version, kind, name})
}

// print answers with one object: as text, or as a line of JSON.
func (e *env) print(v any, text string, args ...any) error {
	if e.json {
		return json.NewEncoder(e.stdout).Encode(v)
	}
	_, err := fmt.Fprintf(e.stdout, text+"\n", args...)
	return err
}

// report tells why a command failed, and what to do next where that is known.
func (e *env) report(err error) {
	code, hint := advise(err)
	if e.json {
		out := control.Error{Version: control.Version, Code: code, Text: err.Error(), Hint: hint}
		_ = json.NewEncoder(e.stderr).Encode(out) // there is nobody else to tell
		return
	}
	fmt.Fprintf(e.stderr, "p2pnode: %v\n", err)
	if hint != "" {
		fmt.Fprintf(e.stderr, "  %s\n", hint)
	}
}

// completeMember completes the first argument with the names of members.
func (e *env) completeMember(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return e.memberNames(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
}

// completeTarget completes a target, which is the argument at a place: the member, and
// then the service.
func (e *env) completeTarget(place int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) != place {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if member, _, found := strings.Cut(begun, "/"); found && member != "" {
			return e.targetsOf(cmd.Context(), member), cobra.ShellCompDirectiveNoFileComp
		}
		names := e.memberNames(cmd.Context())
		for i := range names {
			names[i] += "/"
		}
		return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// targetsOf returns the services that a member offers, as targets, or none if that can't
// be told.
func (e *env) targetsOf(ctx context.Context, member string) (targets []string) {
	_ = e.withNode(func(c *control.Client) error {
		w, err := c.Whois(ctx, member)
		for _, o := range w.Offers {
			if o.Ports == "" { // else there are many
				targets = append(targets, member+"/"+o.Service)
			}
		}
		return err
	})
	return targets
}

// memberNames returns the names of the members, or none if no node runs: there
// is nobody to tell why.
func (e *env) memberNames(ctx context.Context) (names []string) {
	_ = e.withNode(func(c *control.Client) error {
		members, err := c.Members(ctx)
		for _, m := range members {
			names = append(names, m.Name)
		}
		return err
	})
	return names
}
