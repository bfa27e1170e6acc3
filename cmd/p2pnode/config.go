package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/config"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// configCommand is about the node's configuration file.
func configCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check a configuration file, or write down what the node does as one",
		Long: `A configuration file says what a node is to expose and forward, and is given to
"p2pnode up --config". It is TOML:

  [node]
  name = "alice"

  [[expose]]
  service = "web"
  target = "3000"
  allow = ["bob", "role:admin"]

  [[forward]]
  listen = "5432"
  target = "bob/db"

Keys are called as the flags of up, expose and forward are.`,
		Example: `  p2pnode config check mesh.toml
  p2pnode config show > mesh.toml`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(configCheckCommand(e), configShowCommand(e))
	return cmd
}

// A checkedConfig tells what a file has.
type checkedConfig struct {
	Version  int    `json:"v"`
	File     string `json:"file"`
	Exposed  int    `json:"exposed"`
	Forwards int    `json:"forwards"`
}

func configCheckCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE",
		Short:   "Tell what is wrong with a configuration file",
		Example: `  p2pnode config check mesh.toml`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := config.Read(args[0])
			if err != nil {
				return badConfig(err)
			}
			var flags nodeFlags
			up := &cobra.Command{}
			flags.add(up)
			if err := useSettings(f, up.Flags()); err != nil {
				return badConfig(err)
			}
			if _, err := flags.config(e, ""); err != nil {
				return badConfig(&config.Problem{Path: f.Path, Err: fmt.Errorf("[node]: %w", err)})
			}
			c := checkedConfig{control.Version, f.Path, len(f.Exposed), len(f.Forwards)}
			return e.print(c, "%s: %d exposed, %d forwards", c.File, c.Exposed, c.Forwards)
		},
	}
}

func configShowCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Short:   "Write down what the node exposes and forwards as a configuration file",
		Example: `  p2pnode config show`,
		Args:    exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				n, err := c.Status(cmd.Context())
				if err != nil {
					return err
				}
				text, err := config.Format(n)
				if err != nil {
					return err
				}
				return e.print(shownConfig{control.Version, string(text)}, "%s", strings.TrimSuffix(string(text), "\n"))
			})
		},
	}
}

// A shownConfig has the text of a file.
type shownConfig struct {
	Version int    `json:"v"`
	TOML    string `json:"toml"`
}

// reloadCommand has the node read its configuration file again.
func reloadCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the node read its configuration file again; what did not change goes on",
		Args:  exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				r, err := c.Reload(cmd.Context())
				if err != nil {
					return err
				}
				for _, note := range r.Notes {
					e.warn(note)
				}
				return e.print(r, "%s: %d added, %d changed, %d removed, %d as before", r.File, r.Added, r.Changed, r.Removed, r.Unchanged)
			})
		},
	}
}

// A configError is what is wrong with a configuration file.
type configError struct{ error }

func (c configError) Unwrap() error { return c.error }

func badConfig(err error) error { return configError{err} }

// notSettings are flags that say where a file is or how the command is to run.
var notSettings = []string{"config", "background"}

// useSettings gives the flags of up what the file says in [node], but for those that
// were given on the command line.
func useSettings(f *config.File, flags *pflag.FlagSet) error {
	var known []string
	flags.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden && !slices.Contains(notSettings, flag.Name) {
			known = append(known, flag.Name)
		}
	})
	for _, s := range f.Node {
		wrong := func(err error) error { return &config.Problem{Path: f.Path, At: s.At, Err: err} }
		if !slices.Contains(known, s.Key) {
			return wrong(config.Unknown(s.Key, known))
		}
		if flags.Changed(s.Key) {
			continue
		}
		flag := flags.Lookup(s.Key)
		if _, list := flag.Value.(pflag.SliceValue); !list && len(s.Values) != 1 {
			return wrong(fmt.Errorf("%s takes one value, not a list of %d", s.Key, len(s.Values)))
		}
		for _, v := range s.Values {
			if err := flag.Value.Set(v); err != nil { // without what a FlagSet says of flags
				return wrong(fmt.Errorf("%s: %.80q: %w", s.Key, v, err))
			}
		}
		flag.Changed = true
	}
	return nil
}
