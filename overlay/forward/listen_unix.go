//go:build unix

package forward

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// Only the owner may connect to a unix socket, if nothing else is said.
const socketMode = 0o600

// makePrivate sets the mode before there is a file, so that there is no moment
// at which others may connect. Linux gives the file the mode of the socket; where
// a socket has none, setMode follows.
func makePrivate(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), socketMode) })
}

// setMode gives the file its owner and then its mode, which is what lets others in.
func setMode(path string, c Config) error {
	if c.Owner != "" {
		uid, gid, err := parseOwner(c.Owner)
		if err != nil {
			return err
		}
		if err := os.Lchown(path, uid, gid); err != nil {
			return fmt.Errorf("give the socket to %s: %w", c.Owner, reasonOfPath(err))
		}
	}
	return os.Chmod(path, cmp.Or(c.Mode, socketMode))
}

// parseOwner reads "user", "user:group" or ":group", each a name or a number. What is
// not there is -1, which leaves it as it is.
func parseOwner(s string) (uid, gid int, err error) {
	name, group, _ := strings.Cut(s, ":")
	uid, err = idOf("user", name, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("owner %q: %w", s, err)
	}
	gid, err = idOf("group", group, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("owner %q: %w", s, err)
	}
	return uid, gid, nil
}

func idOf(what, name string, lookup func(string) (string, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(id), nil
	}
	text, err := lookup(name)
	if err != nil {
		return 0, fmt.Errorf("no such %s: %s", what, name)
	}
	return strconv.Atoi(text)
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
