package overlay

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// WhoIs returns the member at the other end of a stream that came from Accept or
// Dial, also where it was wrapped in another connection with a NetConn method, as
// [crypto/tls.Conn] has. Of any other connection it reports false.
func (m *Mesh) WhoIs(c net.Conn) (Member, bool) {
	for range maxWrapped {
		switch conn := c.(type) {
		case *Conn:
			return conn.Peer(), conn.mesh == m
		case interface{ NetConn() net.Conn }:
			c = conn.NetConn()
		default:
			return Member{}, false
		}
	}
	return Member{}, false
}

// maxWrapped is how deep a stream may be wrapped: enough for TLS in TLS.
const maxWrapped = 8

// FindMember returns a member by name, by peer ID, or by an address that this node
// has a connection to: a multiaddr, or an IP address with or without a port. The
// error is [ErrUnknownMember] or an [*AmbiguousError].
func (m *Mesh) FindMember(ctx context.Context, who string) (Member, error) {
	if ids := m.membersAt(who); len(ids) > 0 {
		return m.onlyMember(who, ids)
	}
	id, err := m.find(ctx, who)
	if err != nil {
		return Member{}, fmt.Errorf("find %.80s: %w", who, m.fault(ctx, err))
	}
	if member, ok := m.Member(id); ok {
		return member, nil
	}
	if err := m.connect(ctx, id); err != nil {
		return Member{}, fmt.Errorf("find %.80s: %w", who, m.fault(ctx, err))
	}
	member, ok := m.Member(id)
	if !ok {
		return Member{}, fmt.Errorf("find %.80s: %w", who, ErrUnknownMember)
	}
	return member, nil
}

func (m *Mesh) onlyMember(who string, found []Member) (Member, error) {
	if len(found) == 1 {
		return found[0], nil
	}
	out := &AmbiguousError{Name: who}
	for _, member := range found {
		out.IDs = append(out.IDs, member.ID)
	}
	return Member{}, out
}

// membersAt returns those that there are connections with at an address.
func (m *Mesh) membersAt(addr string) []Member {
	var out []Member
	for _, c := range m.node.Connections() {
		if len(out) > 0 && out[len(out)-1].ID == c.Peer || !isAt(c.Addr, addr) {
			continue
		}
		if member, ok := m.Member(c.Peer); ok {
			out = append(out, member)
		}
	}
	return out
}

func isAt(a multiaddr.Multiaddr, addr string) bool {
	if a.String() == addr {
		return true
	}
	n, err := manet.ToNetAddr(a)
	if err != nil {
		return false
	}
	if n.String() == addr {
		return true
	}
	host, _, err := net.SplitHostPort(n.String())
	return err == nil && host == strings.Trim(addr, "[]")
}
