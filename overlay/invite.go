package overlay

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
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

// startPoints returns where one who joins can start: at this node, which is named
// by its ID alone if it has no address that reaches another machine, and at some
// others. Of those the ones with addresses go first; the rest are found by who
// joins on the same machine.
func (m *Mesh) startPoints() []peer.AddrInfo {
	out := []peer.AddrInfo{{ID: m.node.ID(), Addrs: pickAddrs(m.Addrs(), inviteOwnAddrs)}}
	var near []peer.AddrInfo
	for _, id := range m.neighbours() {
		info := peer.AddrInfo{ID: id, Addrs: pickAddrs(m.node.KnownAddrs(id), inviteOtherAddrs)}
		if len(info.Addrs) == 0 {
			near = append(near, info)
		} else {
			out = append(out, info)
		}
	}
	out = append(out, near...)
	return out[:min(len(out), 1+inviteOthers)]
}
