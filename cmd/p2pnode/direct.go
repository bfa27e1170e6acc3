package main

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// directFlags are those of the commands that can do without relays.
type directFlags struct {
	only bool
	wait time.Duration

	given *pflag.FlagSet
}

func (f *directFlags) add(cmd *cobra.Command) {
	f.given = cmd.Flags()
	f.given.BoolVar(&f.only, "direct-only", false, "never go through a relay; fail where there is no other way")
	f.given.DurationVar(&f.wait, "wait-direct", 5*time.Second, "how long to wait for a direct path, with --direct-only")
}

func (f *directFlags) check() error {
	switch {
	case f.given.Changed("wait-direct") && !f.only:
		return usagef("--wait-direct needs --direct-only")
	case f.wait < 0:
		return usagef("--wait-direct %v: less than no time", f.wait)
	}
	return nil
}
