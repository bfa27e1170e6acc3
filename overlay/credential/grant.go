package credential

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/p2pnode/p2pnode/overlay/wire"
)

// A Kind says what the key that a grant is about is for. Zero is no kind.
type Kind uint8

// The kinds there are.
const (
	KindNode   Kind = 1 // the key of a node: the grant makes it a member
	KindInvite Kind = 2 // the key of an invite: it can give one node a grant, and never connects itself
)

// A Grant is what one link of a chain says, without its signature.
type Grant struct {
	// Key is whom the grant is about.
	Key  ed25519.PublicKey
	Kind Kind

	// Name is what the member is called in the mesh. In an invite it may be
	// empty: then the holder chooses.
	Name  string
	Roles Roles

	// NotBefore and NotAfter are in whole seconds and UTC. Both are within the
	// grant's time.
	NotBefore, NotAfter time.Time

	Serial Serial

	// Uses is how many nodes an invite admits. Zero is any number; otherwise an
	// admin counts them, and the invite alone makes nobody a member.
	Uses uint16

	// Services are the only ones that the member may use, sorted. Empty is no
	// restriction.
	Services []string
}

// What a grant says at most.
const (
	MaxServices   = 8    // that a member is restricted to
	MaxUses       = 1000 // of an invite whose uses are counted
	MaxAdmittedBy = 16   // keys that vouch for how a member came in
)

// claims is the signed part of a grant as it is encoded.
type claims struct {
	Subject   [ed25519.PublicKeySize]byte `cbor:"1,keyasint,omitzero"` // left out in an invite's text
	Kind      Kind                        `cbor:"2,keyasint"`
	Name      string                      `cbor:"3,keyasint,omitempty"`
	Roles     Roles                       `cbor:"4,keyasint"`
	NotBefore int64                       `cbor:"5,keyasint"` // Unix seconds
	NotAfter  int64                       `cbor:"6,keyasint"`
	Serial    Serial                      `cbor:"7,keyasint"`
	Uses      uint16                      `cbor:"8,keyasint,omitzero"`
	Services  []string                    `cbor:"9,keyasint,omitempty"`

	// Of a member whose credential is not its first: how it came in, which the
	// chain does not show any more.
	Admitted   int64                         `cbor:"10,keyasint,omitempty"` // Unix seconds
	NameChosen bool                          `cbor:"11,keyasint,omitempty"` // by the member itself
	AdmittedBy [][ed25519.PublicKeySize]byte `cbor:"12,keyasint,omitempty"` // the keys that were above it, then or since
}

// renewed tells whether the claims say how the member came in.
func (c claims) renewed() bool {
	return c.Admitted != 0 || c.NameChosen || len(c.AdmittedBy) > 0
}

func (c claims) checkOrigin() error {
	switch {
	case !c.renewed():
		return nil
	case c.Kind != KindNode:
		return fmt.Errorf("%w: an invite that was admitted", ErrInvalid)
	case c.Admitted <= 0 || c.Admitted > maxTime || len(c.AdmittedBy) == 0 || len(c.AdmittedBy) > MaxAdmittedBy:
		return fmt.Errorf("%w: admitted at second %d by %d keys; there are 1 to %d", ErrInvalid, c.Admitted, len(c.AdmittedBy), MaxAdmittedBy)
	}
	return nil
}

// grant is a link of a chain: claims, and the signature of the issuer's key over
// them. Who the issuer is follows from the place in the chain.
type grant struct {
	_         struct{} `cbor:",toarray"`
	Claims    claims
	Signature [ed25519.SignatureSize]byte
}

// grantContext keeps a signature on a grant from being taken for one on anything
// else that the same key signs: a node's key signs libp2p's handshakes too.
const grantContext = "p2pnode credential v1\x00"

// maxTime is the end of the year 9999, the last that RFC 3339 can write.
const maxTime = 253402300799

// message is what the issuer signs. The mesh's ID is in it, so that a grant is
// worth nothing in another mesh, even one where its issuer is an admin too.
func (c claims) message(mesh MeshID) ([]byte, error) {
	data, err := wire.Marshal(c)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte(grantContext), mesh[:], data), nil
}

// checkForm refuses what no grant may say, whoever issued it.
func (c claims) checkForm() error {
	switch {
	case c.Subject == [ed25519.PublicKeySize]byte{}:
		return fmt.Errorf("%w: no subject", ErrInvalid)
	case c.Kind != KindNode && c.Kind != KindInvite:
		return fmt.Errorf("%w: unknown kind %d", ErrInvalid, c.Kind)
	case c.Roles == 0 || !allRoles.Has(c.Roles):
		return fmt.Errorf("%w: roles %q; one or more of %v are needed", ErrInvalid, c.Roles, allRoles)
	case c.NotBefore < 0 || c.NotAfter > maxTime || c.NotBefore >= c.NotAfter:
		return fmt.Errorf("%w: valid from second %d to second %d, which is no stretch of time before the year 10000",
			ErrInvalid, c.NotBefore, c.NotAfter)
	case c.Uses > MaxUses || c.Uses > 0 && c.Kind != KindInvite:
		return fmt.Errorf("%w: %d uses; an invite has at most %d, and nothing else any", ErrInvalid, c.Uses, MaxUses)
	}
	if err := checkServices(c.Services, c.Roles); err != nil {
		return err
	}
	if err := c.checkOrigin(); err != nil {
		return err
	}
	if c.Kind == KindInvite && c.Name == "" {
		return nil
	}
	return CheckName(c.Name)
}

// checkServices refuses what is no restriction. An admin can't be restricted, as
// it could give itself another credential.
func checkServices(services []string, roles Roles) error {
	switch {
	case len(services) > MaxServices:
		return fmt.Errorf("%w: %d services; at most %d", ErrInvalid, len(services), MaxServices)
	case len(services) > 0 && roles.Has(RoleAdmin):
		return fmt.Errorf("%w: an admin restricted to services", ErrInvalid)
	}
	for i, name := range services {
		if err := CheckName(name); err != nil {
			return fmt.Errorf("service %w", err)
		}
		if i > 0 && services[i-1] >= name {
			return fmt.Errorf("%w: services out of order", ErrInvalid)
		}
	}
	return nil
}

// grant returns the claims as callers see them.
func (c claims) grant() Grant {
	return Grant{
		Key:       slices.Clone(c.Subject[:]),
		Kind:      c.Kind,
		Name:      c.Name,
		Roles:     c.Roles,
		NotBefore: time.Unix(c.NotBefore, 0).UTC(),
		NotAfter:  time.Unix(c.NotAfter, 0).UTC(),
		Serial:    c.Serial,
		Uses:      c.Uses,
		Services:  slices.Clone(c.Services),
	}
}

// String says in errors which grant is meant. Names come from others and may be
// anything until checkForm has seen them.
func (c claims) String() string {
	switch {
	case c.Kind == KindNode:
		return fmt.Sprintf("credential of %.80q", c.Name)
	case c.Name != "":
		return fmt.Sprintf("invite %v for %.80q", c.Serial, c.Name)
	default:
		return fmt.Sprintf("invite %v", c.Serial)
	}
}

func grantsOf(chain []grant) []Grant {
	grants := make([]Grant, len(chain))
	for i, g := range chain {
		grants[i] = g.Claims.grant()
	}
	return grants
}
