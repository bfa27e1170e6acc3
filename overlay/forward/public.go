package forward

import (
	"context"
	"net"
)

// Join passes what comes in at one connection out at the other, both ways, as
// the package comment tells, until both directions have ended, one has broken,
// or ctx ends. Then both are closed. It returns why they broke, or nil if they
// ended cleanly.
func Join(ctx context.Context, a, b net.Conn) error {
	return join(ctx, a, b, new(meter))
}
