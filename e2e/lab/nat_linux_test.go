package lab

import (
	"errors"
	"testing"
)

func TestEachRouterIsWhatItsLabelSays(t *testing.T) {
	for _, nat := range []NAT{
		{},
		{Kind: FullCone},
		{Kind: FullCone, OpenInput: true},
		{Kind: FullCone, Hairpin: true},
		{Kind: FullCone, Remap: true},
		{Kind: FullCone, Remap: true, Hairpin: true, OpenInput: true},
		{Kind: AddressRestricted},
		{Kind: AddressRestricted, OpenInput: true},
		{Kind: AddressRestricted, Hairpin: true},
		{Kind: AddressRestricted, Remap: true},
		{Kind: PortRestricted},
		{Kind: PortRestricted, OpenInput: true},
		{Kind: PortRestricted, Hairpin: true},
		{Kind: PortRestricted, Hairpin: true, OpenInput: true},
		{Kind: PortRestricted, Remap: true},
		{Kind: PortRestricted, Remap: true, OpenInput: true},
		{Kind: PortRestricted, Carrier: true, IPv6: true},
		{Kind: Symmetric},
		{Kind: Symmetric, OpenInput: true},
		{Kind: Symmetric, Hairpin: true},
		{Kind: PortRestricted, UDPBlocked: true},
		{Kind: PortRestricted, UDPReject: true},
		{Kind: Symmetric, OnlyTCP443: true},
		{Kind: None, UDPBlocked: true},
	} {
		t.Run(nat.String(), func(t *testing.T) {
			l := New(t)
			r := l.Router("r", nat)
			if err := r.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A lab that is wrong is told apart from a program that is.
func TestRouterThatIsNotWhatItsLabelSays(t *testing.T) {
	l := New(t)
	r := l.Router("r", NAT{Kind: FullCone})
	r.nat.Kind = Symmetric
	var mismatch *MismatchError
	if err := l.Verify(t.Context()); !errors.As(err, &mismatch) {
		t.Fatalf("Verify() = %v, want a MismatchError", err)
	}
	if mismatch.Got.Mapping != EndpointIndependent || mismatch.Want.Mapping != AddressAndPortDependent {
		t.Errorf("Verify() = %v, want that it says what mapping was measured", mismatch)
	}
}
