package daemon

import (
	"strings"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/forward"
)

// A listening is what forwards and proxies have: a local socket, or one that is to be.
type listening struct {
	// Never changed once it is entered.
	listen forward.Address // as it was asked for
	socket socket          // nil while it is down
	down   error           // why it does not listen; nil while it does
}

type socket interface {
	Address() forward.Address
	Stats() forward.Stats
	Close() error
}

// close ends the socket, if it is there.
func (l *listening) close() error {
	if l.socket == nil {
		return nil
	}
	return l.socket.Close()
}

// name is the address by which it is known: where it listens, or is to.
func (l *listening) name() string {
	if l.socket == nil {
		return l.listen.String()
	}
	return l.socket.Address().String()
}

// counts are none while it is down.
func (l *listening) counts() control.Counts {
	if l.socket == nil {
		return control.Counts{}
	}
	return counts(l.socket.Stats())
}

// isAt tells whether it listens at an address, or was asked to: what "localhost" is, only
// the system knows. Many may have been asked to listen at a free port, so that names none.
func (l *listening) isAt(addr forward.Address) bool {
	return l.name() == addr.String() || l.listen == addr && !anyPort(addr)
}

func anyPort(a forward.Address) bool {
	return a.Network() != "unix" && strings.HasSuffix(a.String(), ":0")
}
