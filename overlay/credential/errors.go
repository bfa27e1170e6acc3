package credential

import "errors"

// What a caller may branch on. Each comes wrapped in what was looked at and why
// it was refused.
var (
	// ErrInvalid is for what is malformed, altered, too large or not in its one
	// form. Asking again with the same bytes is of no use.
	ErrInvalid = errors.New("invalid")

	// ErrWrongMesh is for a chain that does not end in a signature of this
	// mesh's root. It is of another mesh, or its last grant was altered: nobody
	// can tell which.
	ErrWrongMesh = errors.New("not of this mesh")

	// ErrNotAllowed is for a grant, signed or still to be signed, that gives
	// more than its issuer may.
	ErrNotAllowed = errors.New("not allowed")

	// ErrNotYetValid is for a grant whose time has not come, on this machine's
	// clock and by more than [ClockTolerance]. In practice a clock is wrong.
	ErrNotYetValid = errors.New("not yet valid")

	// ErrExpired is for a grant that has ended. Its holder needs a new one.
	ErrExpired = errors.New("expired")

	// ErrUnredeemed is for a credential made with an invite whose uses are
	// counted: an admin has yet to give the real one for it.
	ErrUnredeemed = errors.New("not yet redeemed with an admin")

	// ErrRevoked is for a member, an invite or an admin in between that an admin
	// has put out.
	ErrRevoked = errors.New("revoked")

	// ErrNotInvite is for a text that is something else altogether.
	ErrNotInvite = errors.New("not an invite")

	// ErrMistyped is for the text of an invite that was damaged on its way: cut
	// off, mistyped, or with more text behind it. It is worth copying again. An
	// error that is ErrMistyped is [ErrInvalid] too.
	ErrMistyped = errors.New("damaged in copying")

	// ErrNewerInvite is for an invite that a later version of this program made.
	ErrNewerInvite = errors.New("invite of a newer version")
)
