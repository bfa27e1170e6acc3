package credential

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// What an invite holds at most. Few addresses are enough to find a mesh, and
// each makes the text longer.
const (
	MaxPeers   = 8   // peers to start from
	MaxAddrs   = 8   // addresses of one peer
	MaxAddrLen = 256 // bytes of one address, in binary
)

// An Invite lets its holder give one node a credential: it is a private key, the
// grant that says what that key may give, and where to find the mesh. Whoever has
// the text can join; it is to be passed on like a password.
//
// However an Invite is printed or logged, it shows its mesh and its end and not
// the key: that is in Text alone. [Issuer.IssueInvite] and [ParseInvite] make an
// Invite; its zero value is of no use.
type Invite struct {
	key   privateKey
	mesh  MeshID
	chain []grant // the invite's own first
	start []peer.AddrInfo
	text  func() string // a function for the same reason as the key
}

// newInvite makes an invite of parts that may come from anywhere.
func newInvite(key privateKey, mesh MeshID, chain []grant, start []peer.AddrInfo) (*Invite, error) {
	if err := checkChain(chain); err != nil {
		return nil, err
	}
	if kind := chain[0].Claims.Kind; kind != KindInvite {
		return nil, fmt.Errorf("%w: the grant in it is of kind %d, not an invite's", ErrInvalid, kind)
	}
	if err := checkStart(start); err != nil {
		return nil, err
	}
	inv := &Invite{key: key, mesh: mesh, chain: chain, start: cloneStart(start)}
	text, err := inv.encode()
	if err != nil {
		return nil, err
	}
	inv.text = func() string { return text }
	return inv, nil
}

// Text returns the invite as it is handed on, at most [MaxInviteText] bytes. It
// is a secret. [ParseInvite] is its inverse.
func (inv *Invite) Text() string { return inv.text() }

// ID names the invite where invites are listed and revoked. It is no secret.
func (inv *Invite) ID() Serial { return inv.chain[0].Claims.Serial }

// Mesh is the mesh the invite claims to be for.
func (inv *Invite) Mesh() MeshID { return inv.mesh }

// Grant is what the invite claims to give: to whom, if it is bound to a name,
// with which roles, until when.
func (inv *Invite) Grant() Grant { return inv.chain[0].Claims.grant() }

// Start lists where to find the mesh. A peer without an address can be found on
// its own machine, by its ID. The list is the word of whoever handed the text on:
// no signature covers it, and a peer there must prove its membership like any
// other.
func (inv *Invite) Start() []peer.AddrInfo { return cloneStart(inv.start) }

// Verify returns nil if the holder can join with this invite now. Otherwise the
// error is one of those of [Credential.Verify].
func (inv *Invite) Verify(now time.Time) error {
	if err := verify(inv.chain, inv.mesh, now); err != nil {
		return fmt.Errorf("verify %v: %w", inv.chain[0].Claims, err)
	}
	return nil
}

// IssueNode gives a node, by its public key, the credential that the invite is
// for: its roles, until it ends. If the invite is bound to a name, that must be
// the name here, or the name be empty; otherwise the name is the holder's choice.
// No admin is asked. If the invite's uses are counted, the credential is only good
// for [Credential.Redeem]. It draws 16 bytes from rand, as [Issuer.IssueNode] does.
func (inv *Invite) IssueNode(rand io.Reader, now time.Time, node ed25519.PublicKey, name string) (*Credential, error) {
	own := inv.chain[0].Claims
	if name == "" {
		name = own.Name
	}
	issuer := &Issuer{mesh: inv.mesh, key: inv.key, chain: inv.chain}
	return issuer.IssueNode(rand, now, node, Terms{Name: name, Roles: own.Roles, Services: own.Services})
}

// String names the invite's mesh and end. It does not show the secret. It and the
// two below are methods of the value, so that a copy is guarded too.
func (inv Invite) String() string {
	if len(inv.chain) == 0 {
		return "no invite"
	}
	own := inv.chain[0].Claims
	return fmt.Sprintf("%v to mesh %s, expires %s", own, inv.mesh.short(), stamp(own.NotAfter))
}

// Format prints String whatever the verb, so that the secret is not printed by
// %#v or %x either.
func (inv Invite) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, inv.String()) }

// LogValue logs String.
func (inv Invite) LogValue() slog.Value { return slog.StringValue(inv.String()) }

// checkStart keeps the start addresses within bounds.
func checkStart(start []peer.AddrInfo) error {
	if len(start) > MaxPeers {
		return fmt.Errorf("%w: %d peers to start from; at most %d", ErrInvalid, len(start), MaxPeers)
	}
	for _, p := range start {
		if len(p.Addrs) > MaxAddrs {
			return fmt.Errorf("%w: %d addresses of peer %v; at most %d", ErrInvalid, len(p.Addrs), p.ID, MaxAddrs)
		}
		for _, addr := range p.Addrs {
			if err := checkAddr(addr); err != nil {
				return fmt.Errorf("%w: an address of peer %v %w", ErrInvalid, p.ID, err)
			}
		}
	}
	return nil
}

func checkAddr(addr multiaddr.Multiaddr) error {
	switch n := len(addr.Bytes()); {
	case n == 0:
		return errors.New("is empty")
	case n > MaxAddrLen:
		return fmt.Errorf("has %d bytes; at most %d", n, MaxAddrLen)
	case addr[len(addr)-1].Protocol().Code == multiaddr.P_P2P:
		// One inside is another matter: it names a relay.
		return errors.New("ends in /p2p, which is not part of it here")
	}
	return nil
}

func cloneStart(start []peer.AddrInfo) []peer.AddrInfo {
	clone := slices.Clone(start)
	for i := range clone {
		clone[i].Addrs = slices.Clone(clone[i].Addrs)
	}
	return clone
}
