package overlay

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// InviteOptions says what an invite gives. The zero value invites a member
// that chooses its own name, for a day.
type InviteOptions struct {
	// Expires is how long the invite can be used. Zero means 24 hours.
	Expires time.Duration

	// Roles are what those who join by it may be. Zero means member and relay.
	Roles credential.Roles

	// Name, if set, is the name of who joins by it.
	Name string

	// Uses is how many may join by it, at most [credential.MaxUses]. An admin has
	// to be up when they do. Zero is any number, and nobody has to be asked.
	Uses int

	// Services, if any are given, are the only ones that who joins may use; at
	// most [credential.MaxServices].
	Services []string
}

// DefaultInviteLife is how long an invite can be used unless told otherwise.
const DefaultInviteLife = 24 * time.Hour

// What an invite tells of where to start: this node, and some others in case
// it is gone by then. Each address makes the text longer.
const (
	inviteOwnAddrs   = 4
	inviteOthers     = 2
	inviteOtherAddrs = 2
)

// Invite returns an invite, whose Text is what others join the mesh with, until it
// expires. The text is a secret. Only an admin can invite; the error is
// [ErrNotAdmin] otherwise.
func (m *Mesh) Invite(o InviteOptions) (*credential.Invite, error) {
	inv, err := m.invite(o)
	if err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	return inv, nil
}

func (m *Mesh) invite(o InviteOptions) (*credential.Invite, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	if o.Expires < 0 {
		return nil, fmt.Errorf("InviteOptions.Expires is negative: %v", o.Expires)
	}
	issuer, ends, err := m.issuer()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	until := now.Add(cmp.Or(o.Expires, DefaultInviteLife))
	if until.After(ends) {
		return nil, fmt.Errorf("it would outlive this node's own credential, which ends %s", ends.Format(time.DateTime))
	}
	if o.Uses < 0 || o.Uses > credential.MaxUses {
		return nil, fmt.Errorf("InviteOptions.Uses is %d; at most %d", o.Uses, credential.MaxUses)
	}
	terms := credential.Terms{Name: o.Name, Roles: o.Roles, NotAfter: until, Uses: uint16(o.Uses), Services: o.Services}
	inv, err := issuer.IssueInvite(rand.Reader, now, terms, m.startPoints())
	if err != nil {
		return nil, err
	}
	return inv, m.book(inv)
}

// startPoints returns where one who joins can start.
func (m *Mesh) startPoints() []peer.AddrInfo {
	out := []peer.AddrInfo{{ID: m.node.ID(), Addrs: pickAddrs(m.Addrs(), inviteOwnAddrs)}}
	for _, c := range m.node.Connections() {
		addrs := pickAddrs(m.node.KnownAddrs(c.Peer), inviteOtherAddrs)
		if len(out) > inviteOthers {
			break
		}
		if out[len(out)-1].ID == c.Peer || len(addrs) == 0 {
			continue
		}
		out = append(out, peer.AddrInfo{ID: c.Peer, Addrs: addrs})
	}
	return out
}

// pickAddrs chooses the addresses that are most likely to be of use: public
// ones first, then private ones, TCP before QUIC before WebSocket, and one on
// loopback, for those on the same machine.
func pickAddrs(addrs []multiaddr.Multiaddr, n int) []multiaddr.Multiaddr {
	sorted := slices.Clone(addrs)
	slices.SortStableFunc(sorted, func(a, b multiaddr.Multiaddr) int {
		return cmp.Or(cmp.Compare(reach(a), reach(b)), cmp.Compare(transportOrder(a), transportOrder(b)))
	})
	var out []multiaddr.Multiaddr
	for _, a := range sorted {
		if len(out) < n-1 && !manet.IsIPLoopback(a) && !manet.IsIP6LinkLocal(a) {
			out = append(out, a)
		}
	}
	for _, a := range sorted {
		if manet.IsIPLoopback(a) && len(out) < n {
			return append(out, a)
		}
	}
	return out
}

// reach orders addresses by how far they reach.
func reach(a multiaddr.Multiaddr) int {
	switch {
	case manet.IsPublicAddr(a):
		return 0
	case manet.IsIPLoopback(a):
		return 2
	}
	return 1
}

// transportOrder puts TCP before QUIC, and that before WebSocket.
func transportOrder(a multiaddr.Multiaddr) int {
	order := 0
	for _, c := range a {
		switch c.Protocol().Code {
		case multiaddr.P_QUIC_V1:
			order = 1
		case multiaddr.P_WS, multiaddr.P_WSS:
			order = 2
		}
	}
	return order
}
