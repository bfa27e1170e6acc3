package overlay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
	"github.com/p2pnode/p2pnode/p2p"
)

// renewProtocol is how a member gets a new credential from an admin: it opens
// a stream, and the admin, who knows it from admission, writes one of the same
// name and roles in a frame.
const renewProtocol = "/p2pnode/renew/1"

const (
	// renewRetry is how long after a try the next may follow, and renewCheck how
	// often the time left is looked at.
	renewRetry = 30 * time.Second
	renewCheck = time.Hour
)

// ErrNotAdmin says that only an admin can do what was asked.
var ErrNotAdmin = errors.New("not an admin of the mesh")

func (m *Mesh) serveRenew(s *p2p.Stream) error {
	m.mu.Lock()
	e := m.roster.entries[s.Peer()]
	if e == nil {
		m.mu.Unlock()
		return ErrUnknownMember
	}
	member := e.member
	m.mu.Unlock()
	c, err := m.issue(member)
	if err != nil {
		return err
	}
	return wire.WriteFrame(s, c.Marshal())
}

// issue makes a credential like the one a member has, and with no shorter a
// life as far as this admin can give that.
func (m *Mesh) issue(member credential.Member) (*credential.Credential, error) {
	issuer, ends, err := m.issuer()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	until := now.Add(memberLifetime)
	if until.Before(member.NotAfter) {
		until = member.NotAfter
	}
	if until.After(ends) {
		until = ends
	}
	return issuer.Renew(rand.Reader, now, &member, until)
}

// issuer returns this node in its part as an admin, and when that ends.
func (m *Mesh) issuer() (*credential.Issuer, time.Time, error) {
	m.mu.Lock()
	own, self := m.credential, m.self
	m.mu.Unlock()
	if !self.Roles.Has(credential.RoleAdmin) {
		return nil, time.Time{}, ErrNotAdmin
	}
	issuer, err := credential.NewIssuer(m.id, m.keys.key, own)
	return issuer, self.NotAfter, err
}

// runRenew gets a new credential in time: at once where the present one came
// from an invite and ends with it, and otherwise in its second half.
func (m *Mesh) runRenew() {
	for {
		if !m.RenewalDue().After(time.Now()) {
			if err := m.renew(); err != nil && m.ctx.Err() == nil {
				m.log.Debug("renew credential", "err", err)
			}
		}
		wait := min(max(time.Until(m.RenewalDue()), renewRetry), renewCheck)
		select {
		case <-m.ctx.Done():
			return
		case <-m.renewNow: // an admin came
		case <-time.After(wait):
		}
	}
}

// RenewalDue returns from when on this node asks the admins it is connected to for
// another credential. Once it has one, that is later.
func (m *Mesh) RenewalDue() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.keys.root != nil: // which can give another at any time
		return m.self.NotAfter
	case m.self.ByInvite(), m.revoked.restsOnRevoked(m.credential):
		return m.self.NotBefore
	}
	return m.self.NotBefore.Add(m.self.NotAfter.Sub(m.self.NotBefore) / 2)
}

// renew asks each admin there is a connection to, until one gives a new
// credential.
func (m *Mesh) renew() error {
	var errs []error
	for _, c := range m.node.Connections() {
		member, ok := m.Member(c.Peer)
		if !ok || !member.Roles.Has(credential.RoleAdmin) {
			continue
		}
		err := m.renewWith(c.Peer)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("by %s: %w", member.Name, err))
	}
	if len(errs) == 0 {
		return errors.New("no admin is connected")
	}
	return errors.Join(errs...)
}

func (m *Mesh) renewWith(id peer.ID) error {
	ctx, cancel := context.WithTimeout(m.ctx, headerTimeout)
	defer cancel()
	s, err := m.node.Dial(p2p.Plain(ctx), id, renewProtocol)
	if err != nil {
		return err
	}
	defer s.Close()
	_ = s.CloseWrite()
	var proof []byte
	err = withDeadline(ctx, s, func() error {
		proof, err = wire.ReadFrame(s, credential.MaxSize)
		return err
	})
	if err != nil {
		return err
	}
	return m.adopt(proof)
}

// adopt takes on a new credential, if it is this node's and not less than the
// present one, and writes it down first.
func (m *Mesh) adopt(proof []byte) error {
	c, err := credential.Parse(proof)
	if err != nil {
		return err
	}
	member, err := m.verify(c)
	if err != nil {
		return err
	}
	m.adopting.Lock()
	defer m.adopting.Unlock()
	self := m.Self()
	if member.ID != self.ID || member.Name != self.Name || member.Roles != self.Roles || !slices.Equal(member.Services, self.Services) {
		return errors.New("the new credential is for another peer, name, roles or services")
	}
	if member.NotAfter.Before(self.Expires) {
		return fmt.Errorf("the new credential ends %v, before the present one", member.NotAfter)
	}
	if err := m.store.put(selfBucket, map[string][]byte{keyMesh: m.id[:], keyCredential: proof}); err != nil {
		return err
	}
	m.mu.Lock()
	m.self, m.credential, m.unredeemed = *member, c, false
	m.changeLocked()
	m.mu.Unlock()
	m.admission.renew(proof)
	m.log.Info("credential renewed", "until", member.NotAfter)
	return nil
}
