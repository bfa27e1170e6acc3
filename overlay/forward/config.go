package forward

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"time"
)

const (
	defaultMaxOpen = 4096

	// A service may have to be found and reached through NATs; a target is
	// near, or it is down.
	defaultForwardDialTimeout = 30 * time.Second
	defaultExposeDialTimeout  = 10 * time.Second
)

// A Config holds what one may want to set for a [Forward] or an [Expose]. The
// zero Config works.
type Config struct {
	// DialTimeout bounds the dial that is made for each accepted connection.
	// Zero means 30 seconds for a Forward and 10 seconds for an Expose.
	DialTimeout time.Duration

	// MaxOpen bounds the connections that are open at the same time. While
	// there are as many, new ones wait to be accepted. A Forward of datagrams ends
	// the flow that has been idle for longest instead, if that is a second, and else
	// drops what a new client sends. Zero means 4096.
	MaxOpen int

	// IdleTimeout is after how long without a datagram a flow ends; zero means 60
	// seconds. A connection of bytes is broken off when nothing went through it for
	// as long, up to a quarter more; zero means that it may be idle for ever.
	IdleTimeout time.Duration

	// ProxyProtocol has an Expose begin each connection to its target, which can't be
	// of UDP, with a header of version 2 of HAProxy's PROXY protocol. It tells who
	// opened the stream: the name and the peer ID, in values of [TypeMember] and
	// [TypePeer], and if it came by the network the IP address, with port 0.
	ProxyProtocol bool

	// Mode is that of the unix socket of a Forward. Zero means 0600.
	Mode fs.FileMode

	// Owner is who that socket is to belong to, as "user", "user:group" or ":group",
	// by name or by number. If empty, who runs this. To give a socket away takes
	// privileges, but for a group that one is in.
	Owner string

	// Logger gets a line for each failure to accept or to dial that differs
	// from the one before it, and at debug level one for each connection that
	// broke. If nil, nothing is logged.
	Logger *slog.Logger
}

// ParseMode reads what may be done with a unix socket, in octal digits as 0660. An empty
// text is the zero FileMode, with which a [Config] says nothing of it.
func ParseMode(s string) (fs.FileMode, error) {
	if s == "" {
		return 0, nil
	}
	mode, err := strconv.ParseUint(s, 8, 32)
	if err != nil || mode == 0 || fs.FileMode(mode)&^fs.ModePerm != 0 {
		return 0, fmt.Errorf("mode %.20q: want octal digits, as 0660", s)
	}
	return fs.FileMode(mode), nil
}

func (c Config) withDefaults(dialTimeout time.Duration) (Config, error) {
	var errs []error
	if c.DialTimeout < 0 {
		errs = append(errs, fmt.Errorf("Config.DialTimeout is negative: %v", c.DialTimeout))
	}
	if c.MaxOpen < 0 {
		errs = append(errs, fmt.Errorf("Config.MaxOpen is negative: %d", c.MaxOpen))
	}
	if c.Mode&^fs.ModePerm != 0 {
		errs = append(errs, fmt.Errorf("Config.Mode is more than permissions: %v", c.Mode))
	}
	if c.IdleTimeout < 0 {
		errs = append(errs, fmt.Errorf("Config.IdleTimeout is negative: %v", c.IdleTimeout))
	}
	c.DialTimeout = cmp.Or(c.DialTimeout, dialTimeout)
	c.MaxOpen = cmp.Or(c.MaxOpen, defaultMaxOpen)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c, errors.Join(errs...)
}
