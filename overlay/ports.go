package overlay

import (
	"errors"
	"fmt"
	"strconv"
)

// PortsService is the name of the service that stands for those that are named like
// ports, see [ListenConfig].Ports. It can't be dialed itself.
const PortsService = "*"

// Ports are the ports from First to Last, and the services that are named like them in
// decimal, as "8080". The zero Ports are none.
type Ports struct{ First, Last uint16 }

// String writes them as "8000-8999".
func (p Ports) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

func (p Ports) check() error {
	if p.First == 0 || p.Last < p.First {
		return errors.New("want two ports above 0, the lower one first")
	}
	return nil
}

// names tells whether a service is named like one of the ports. Each has one name.
func (p Ports) names(service string) bool {
	port, err := strconv.ParseUint(service, 10, 16)
	return err == nil && uint64(p.First) <= port && port <= uint64(p.Last) && strconv.FormatUint(port, 10) == service
}

// listenerLocked returns what takes in the streams to a service: the Listener of that
// name, or else that of ports, if it is named like one of them.
func (m *Mesh) listenerLocked(service string) *Listener {
	if l := m.services[service]; l != nil {
		return l
	}
	if l := m.services[PortsService]; l != nil && l.ports.names(service) {
		return l
	}
	return nil
}
