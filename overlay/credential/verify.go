package credential

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// MaxGrants is the longest chain: founder, an admin below, an invite of
	// that admin, the member who joined by it. Each costs a signature check on
	// every connection, and about 140 bytes in every invite.
	MaxGrants = 4

	// ClockTolerance is how far a machine's clock may be off, either way,
	// before a grant is too early or too late. A machine that has lost its
	// time is off by more; one that has its time from the network by far less.
	ClockTolerance = 10 * time.Minute
)

// verify is the one judge of chains, which it takes leaf first. Whoever issues
// asks it before anyone else does. Time comes last, so that what is expired is
// in order otherwise.
func verify(chain []grant, mesh MeshID, now time.Time) error {
	if err := checkChain(chain); err != nil {
		return err
	}
	if err := checkSignatures(chain, mesh); err != nil {
		return err
	}
	if err := checkAuthority(chain); err != nil {
		return err
	}
	// Each grant's time is within that of the one above: the leaf's is decisive.
	return checkTime(chain[0].Claims, now)
}

// checkChain refuses chains that no key could sign.
func checkChain(chain []grant) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w: no grant in it", ErrInvalid)
	}
	if len(chain) > MaxGrants {
		return fmt.Errorf("%w: a chain of %d grants; at most %d", ErrInvalid, len(chain), MaxGrants)
	}
	for i, g := range chain {
		if err := g.Claims.checkForm(); err != nil {
			return fmt.Errorf("grant %d of %d: %w", i+1, len(chain), err)
		}
	}
	return nil
}

// checkSignatures starts at the root, so that a chain of another mesh is called
// that, whatever else is wrong with it.
func checkSignatures(chain []grant, mesh MeshID) error {
	// Not merely a mistake to catch: anyone can make signatures that fit the
	// key of all zeros.
	if mesh == (MeshID{}) {
		return fmt.Errorf("%w: the mesh ID is zero", ErrWrongMesh)
	}
	last := len(chain) - 1
	if ok, err := chain[last].signedBy(mesh, mesh); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("%w: the root's signature on %v does not match mesh %v", ErrWrongMesh, chain[last].Claims, mesh)
	}
	for i := last - 1; i >= 0; i-- {
		if ok, err := chain[i].signedBy(chain[i+1].Claims.Subject, mesh); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("%w: signature on %v is not by the key in %v", ErrInvalid, chain[i].Claims, chain[i+1].Claims)
		}
	}
	return nil
}

func (g grant) signedBy(key [ed25519.PublicKeySize]byte, mesh MeshID) (bool, error) {
	message, err := g.Claims.message(mesh)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return ed25519.Verify(key[:], message, g.Signature[:]), nil
}

// checkAuthority sees that no grant gives what its issuer may not. The root may
// give anything.
func checkAuthority(chain []grant) error {
	for i := len(chain) - 2; i >= 0; i-- {
		if i > 0 && chain[i+1].Claims.Uses > 0 {
			return fmt.Errorf("%w: %v has yet to be redeemed with an admin and gives nothing", ErrNotAllowed, chain[i].Claims)
		}
		if err := chain[i+1].Claims.mayIssue(chain[i].Claims); err != nil {
			return fmt.Errorf("%w: %v, given by %v: %w", ErrNotAllowed, chain[i].Claims, chain[i+1].Claims, err)
		}
	}
	if len(chain) == MaxGrants && chain[0].Claims.Kind == KindInvite {
		return fmt.Errorf("%w: %d grants up to the root leave no room for the one the invite is to give", ErrNotAllowed, MaxGrants)
	}
	return nil
}

// mayIssue says why the holder of these claims may not give those of child.
func (c claims) mayIssue(child claims) error {
	switch {
	case c.Kind == KindInvite:
		if err := c.mayAdmit(child); err != nil {
			return err
		}
	case !c.Roles.Has(RoleAdmin):
		return fmt.Errorf("the issuer is no admin, its roles are %v", c.Roles)
	}
	return c.covers(child)
}

// mayAdmit is the rule for what an invite gives: one node, as the invite says.
func (c claims) mayAdmit(child claims) error {
	switch {
	case child.Kind != KindNode:
		return errors.New("an invite cannot give invites")
	case !c.Roles.Has(child.Roles):
		return fmt.Errorf("the roles %v are not all among the invite's, %v", child.Roles, c.Roles)
	case c.Name != "" && c.Name != child.Name:
		return fmt.Errorf("the invite is for the name %q alone", c.Name)
	case len(c.Services) > 0 && !slices.Equal(c.Services, child.Services):
		return fmt.Errorf("the invite is for the services %v alone", c.Services)
	case child.renewed():
		return errors.New("an invite cannot say who admitted somebody before")
	}
	return nil
}

// covers sees that child's time is within that of c.
func (c claims) covers(child claims) error {
	if child.NotBefore < c.NotBefore {
		return fmt.Errorf("it starts %s, before its issuer, %s", stamp(child.NotBefore), stamp(c.NotBefore))
	}
	if child.NotAfter > c.NotAfter {
		return fmt.Errorf("it ends %s, after its issuer, %s", stamp(child.NotAfter), stamp(c.NotAfter))
	}
	return nil
}

// checkTime allows for clocks that are somewhat wrong.
func checkTime(c claims, now time.Time) error {
	if early := time.Unix(c.NotBefore, 0).Sub(now); early > ClockTolerance {
		return fmt.Errorf("%w: starts %s, but here it is %s, %v earlier; a clock is wrong, this machine's or the issuer's",
			ErrNotYetValid, stamp(c.NotBefore), stamp(now.Unix()), early.Round(time.Second))
	}
	if late := now.Sub(time.Unix(c.NotAfter, 0)); late > ClockTolerance {
		return fmt.Errorf("%w: ended %s, %v ago", ErrExpired, stamp(c.NotAfter), late.Round(time.Second))
	}
	return nil
}

// stamp writes Unix seconds for people.
func stamp(seconds int64) string {
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}
