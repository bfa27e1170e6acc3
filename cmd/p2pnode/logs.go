package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// followEvery is how often it is looked whether there is more.
const followEvery = 200 * time.Millisecond

// logsCommand shows what a node in the background has logged.
func logsCommand(e *env) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show what the node has logged that was started with --background",
		Example: `  p2pnode logs
  p2pnode logs -f`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := e.directory()
			if err != nil {
				return err
			}
			return e.showLog(cmd.Context(), filepath.Join(dir, logName), follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is logged, until interrupted")
	return cmd
}

// showLog writes a log, what was put aside of it first.
func (e *env) showLog(ctx context.Context, path string, follow bool) error {
	old, err := os.Open(path + oldLog)
	if err == nil {
		_, err = io.Copy(e.stdout, old)
		old.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, errNoLog)
	}
	for {
		if err != nil {
			return err
		}
		f, err = e.showMore(ctx, f, follow)
		if f == nil {
			return err
		}
	}
}

var errNoLog = errors.New("there is no log")

// showMore writes what is in a log. If it is to go on it returns the next one, when
// this has been put aside, or nil when ctx has ended.
func (e *env) showMore(ctx context.Context, f *os.File, follow bool) (next *os.File, err error) {
	defer f.Close()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		aside := follow && replaced(f) // before the rest is read
		if _, err := io.Copy(e.stdout, f); err != nil || !follow {
			return nil, err
		}
		if aside {
			return os.Open(f.Name())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// replaced tells whether there is another file now under the name of one.
func replaced(f *os.File) bool {
	here, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(f.Name())
	return err == nil && !os.SameFile(here, there)
}
