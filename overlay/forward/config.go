package forward

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
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
	// there are as many, new ones wait to be accepted. Zero means 4096.
	MaxOpen int

	// Logger gets a line for each failure to accept or to dial that differs
	// from the one before it, and at debug level one for each connection that
	// broke. If nil, nothing is logged.
	Logger *slog.Logger
}

func (c Config) withDefaults(dialTimeout time.Duration) (Config, error) {
	var errs []error
	if c.DialTimeout < 0 {
		errs = append(errs, fmt.Errorf("Config.DialTimeout is negative: %v", c.DialTimeout))
	}
	if c.MaxOpen < 0 {
		errs = append(errs, fmt.Errorf("Config.MaxOpen is negative: %d", c.MaxOpen))
	}
	c.DialTimeout = cmp.Or(c.DialTimeout, dialTimeout)
	c.MaxOpen = cmp.Or(c.MaxOpen, defaultMaxOpen)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c, errors.Join(errs...)
}
