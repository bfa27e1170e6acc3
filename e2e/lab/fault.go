package lab

import "fmt"

// A Machine is a Host or a Router.
type Machine interface {
	// Name returns the name that it was made with.
	Name() string
	machine() *node
}

func (n *node) machine() *node { return n }

// Cut drops what one machine sends to another, and not what comes back. Where
// they are in different networks it is between the routers that they are behind,
// and so for all that is behind those.
func (l *Lab) Cut(from, to Machine) { l.setCut("cut", from, to, true) }

// Mend undoes Cut.
func (l *Lab) Mend(from, to Machine) { l.setCut("mend", from, to, false) }

// Partition cuts both ways.
func (l *Lab) Partition(a, b Machine) {
	l.Cut(a, b)
	l.Cut(b, a)
}

// Heal undoes Partition.
func (l *Lab) Heal(a, b Machine) {
	l.Mend(a, b)
	l.Mend(b, a)
}

func (l *Lab) setCut(what string, from, to Machine, on bool) {
	l.check(what+" "+from.Name()+" from "+to.Name(), l.locked(func() error {
		for _, f := range from.machine().ports() {
			for _, t := range to.machine().ports() {
				if f.net == t.net && f != t {
					return f.net.cut(f, t, on)
				}
			}
		}
		return fmt.Errorf("there is no network where they meet")
	}))
}

// ports returns where packets of a machine leave the networks on their way to
// the Internet, nearest first.
func (n *node) ports() []*port {
	var out []*port
	for n.port != nil {
		out = append(out, n.port)
		if n.port.net.router == nil {
			break
		}
		n = &n.port.net.router.node
	}
	return out
}
