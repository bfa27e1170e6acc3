package main

import (
	"os/user"
	"strconv"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// localFlags say how a node meets members on its machine.
type localFlags struct {
	dir   string
	users []string
	only  bool
	none  bool

	given *pflag.FlagSet
}

func (f *localFlags) add(cmd *cobra.Command) {
	f.given = cmd.Flags()
	f.given.StringVar(&f.dir, "local-dir", "", "the directory of sockets in which to meet members on this machine, with no network (default: p2pnode in $XDG_RUNTIME_DIR)")
	f.given.StringSliceVar(&f.users, "local-user", nil, "other users of this machine, by name or number, whose nodes to meet in --local-dir")
	f.given.BoolVar(&f.only, "local-only", false, "listen on this machine alone, unless --listen says where else")
	f.given.BoolVar(&f.none, "no-local", false, "meet members on this machine as all others, by the network")
}

// apply makes of the flags what package overlay wants.
func (f *localFlags) apply(c *overlay.Config) error {
	for _, name := range []string{"local-dir", "local-user", "local-only"} {
		if f.none && f.given.Changed(name) {
			return usagef("--no-local and --%s contradict each other", name)
		}
	}
	switch {
	case f.dir == "" && f.given.Changed("local-dir"):
		return usagef("--local-dir is empty")
	case f.dir == "" && len(f.users) > 0:
		return usagef("--local-user needs a --local-dir: your own is for you alone")
	}
	c.LocalDir, c.LocalOnly, c.NoLocal = f.dir, f.only, f.none
	for _, name := range f.users {
		id, err := userNumber(name)
		if err != nil {
			return usagef("--local-user %q: no user of this machine has this name or number", name)
		}
		c.LocalUsers = append(c.LocalUsers, id)
	}
	return nil
}

// userNumber returns the number of a user, who need not have a name.
func userNumber(name string) (uint32, error) {
	id, err := strconv.ParseUint(name, 10, 32)
	if err == nil {
		return uint32(id), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	id, err = strconv.ParseUint(u.Uid, 10, 32)
	return uint32(id), err
}
