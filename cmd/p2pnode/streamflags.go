package main

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// streamFlags are those of the commands that open streams.
type streamFlags struct {
	directOnly bool
	waitDirect time.Duration
	plain      bool

	given *pflag.FlagSet
}

func (f *streamFlags) add(cmd *cobra.Command) {
	f.given = cmd.Flags()
	f.given.BoolVar(&f.directOnly, "direct-only", false, "never go through a relay; fail where there is no other way")
	f.given.DurationVar(&f.waitDirect, "wait-direct", 5*time.Second, "how long to wait for a direct path, with --direct-only")
	f.given.BoolVar(&f.plain, "plain", false, "end a stream when its connection is lost, instead of going on over another")
}

func (f *streamFlags) check() error {
	switch {
	case f.given.Changed("wait-direct") && !f.directOnly:
		return usagef("--wait-direct needs --direct-only")
	case f.waitDirect < 0:
		return usagef("--wait-direct %v: less than no time", f.waitDirect)
	}
	return nil
}
