package overlay

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
)

// invitesBucket holds what this node knows of each invite it made, by serial. The
// secret in it is not kept.
const invitesBucket = "invites"

// inviteKept is how long an invite is listed after it has ended.
const inviteKept = 30 * 24 * time.Hour

type bookedInvite struct {
	Key      [ed25519.PublicKeySize]byte `cbor:"1,keyasint"`
	Name     string                      `cbor:"2,keyasint,omitempty"`
	Roles    credential.Roles            `cbor:"3,keyasint"`
	Made     int64                       `cbor:"4,keyasint"`
	NotAfter int64                       `cbor:"5,keyasint"`
	Uses     uint16                      `cbor:"6,keyasint,omitempty"`
	Services []string                    `cbor:"7,keyasint,omitempty"`
}

// An InviteInfo is what is known of an invite, which is not the invite.
type InviteInfo struct {
	ID       credential.Serial
	Name     string // of who joins by it; empty if they choose
	Roles    credential.Roles
	Services []string // the only ones that who joins may use; empty is no restriction
	Made     time.Time
	Expires  time.Time
	Uses     int       // how many it admits, 0 for any number
	Used     []peer.ID // who is known to have joined by it
	Revoked  bool
}

func (m *Mesh) book(inv *credential.Invite) error {
	g, id := inv.Grant(), inv.ID()
	data, err := wire.Marshal(bookedInvite{
		Key: [ed25519.PublicKeySize]byte(g.Key), Name: g.Name, Roles: g.Roles, Made: g.NotBefore.Unix(), NotAfter: g.NotAfter.Unix(),
		Uses: g.Uses, Services: g.Services,
	})
	if err != nil {
		return err
	}
	values := map[string][]byte{string(id[:]): data}
	booked, err := m.booked()
	if err != nil {
		return err
	}
	for id, b := range booked {
		if time.Since(time.Unix(b.NotAfter, 0)) > inviteKept {
			values[string(id[:])] = nil
		}
	}
	return m.store.put(invitesBucket, values)
}

func (m *Mesh) booked() (map[credential.Serial]bookedInvite, error) {
	values, err := m.store.all(invitesBucket)
	if err != nil {
		return nil, err
	}
	out := map[credential.Serial]bookedInvite{}
	for id, data := range values {
		var b bookedInvite
		if err := wire.Unmarshal(data, &b); err != nil || len(id) != len(credential.Serial{}) {
			return nil, errors.Join(ErrStateCorrupt, err)
		}
		out[credential.Serial([]byte(id))] = b
	}
	return out, nil
}

// inviteKey returns the key of an invite that this node made, or that a member it
// knows of came by; nil if it is not known.
func (m *Mesh) inviteKey(id credential.Serial) ed25519.PublicKey {
	booked, err := m.booked()
	if err != nil {
		m.log.Warn("read invites", "err", err)
	}
	if b, ok := booked[id]; ok {
		return b.Key[:]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.roster.entries {
		for _, g := range e.member.Issuers {
			if g.Serial == id {
				return g.Key
			}
		}
	}
	return nil
}

// Invites returns the invites that this node made, the newest first, for as long
// as a month after they end.
func (m *Mesh) Invites() ([]InviteInfo, error) {
	booked, err := m.booked()
	if err != nil {
		return nil, fmt.Errorf("list invites: %w", err)
	}
	var out []InviteInfo
	for id, b := range booked {
		out = append(out, InviteInfo{
			ID: id, Name: b.Name, Roles: b.Roles, Services: b.Services, Uses: int(b.Uses),
			Made: time.Unix(b.Made, 0), Expires: time.Unix(b.NotAfter, 0),
			Used: m.joinedBy(id, b.Key[:]), Revoked: m.revoked.targets(b.Key[:]) || m.revoked.targets(id[:]),
		})
	}
	slices.SortFunc(out, func(a, b InviteInfo) int {
		return cmp.Or(b.Made.Compare(a.Made), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	return out, nil
}

// joinedBy returns who is known to have come by an invite, sorted.
func (m *Mesh) joinedBy(id credential.Serial, key ed25519.PublicKey) []peer.ID {
	found := map[peer.ID]bool{}
	for _, node := range m.claims.used(id) {
		if id, err := credential.PeerID(node[:]); err == nil {
			found[id] = true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, e := range m.roster.entries {
		if e.member.AdmittedSince(key, time.Time{}) {
			found[id] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
