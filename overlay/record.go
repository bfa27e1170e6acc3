package overlay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// memberRecords is the namespace of the DHT in which each member keeps its
// newest presence statement, so that it is known by name while it is away.
const memberRecords = "member"

func memberKey(id peer.ID) string { return "/" + memberRecords + "/" + id.String() }

// A memberValidator judges those records: each is the member's own word.
type memberValidator struct {
	mesh    credential.MeshID
	revoked *revoked
}

// Validate is for [dht.Validator].
func (v memberValidator) Validate(key string, value []byte) error {
	p, err := parsePresence(value)
	if err != nil {
		return err
	}
	m, c, err := p.verify(v.mesh, time.Now())
	if err != nil {
		return err
	}
	if err := v.revoked.check(c); err != nil {
		return err
	}
	if id := strings.TrimPrefix(key, "/"+memberRecords+"/"); id != m.ID.String() {
		return fmt.Errorf("%w: it is %v's, under the key of %q", errPresence, m.ID, id)
	}
	return nil
}

// Select prefers the newest.
func (v memberValidator) Select(_ string, values [][]byte) (int, error) {
	best, newest := -1, uint64(0)
	for i, value := range values {
		if p, err := parsePresence(value); err == nil && (best < 0 || p.Seq > newest) {
			best, newest = i, p.Seq
		}
	}
	if best < 0 {
		return 0, errors.New("no valid record")
	}
	return best, nil
}

// fetchMember learns of a member from the DHT. That it is up is not said: the
// record stays there when the member goes.
func (m *Mesh) fetchMember(ctx context.Context, id peer.ID) {
	value, err := m.table.Get(ctx, memberKey(id))
	if err != nil {
		m.log.Debug("fetch member", "peer", id, "err", err)
		return
	}
	p, err := parsePresence(value)
	if err != nil {
		return // Validate has seen it
	}
	if member, c, err := p.verify(m.id, time.Now()); err == nil && member.ID == id {
		if err := m.learn(*member, c, m.digest()); err != nil {
			m.log.Debug("fetch member", "peer", id, "err", err)
		}
	}
}
