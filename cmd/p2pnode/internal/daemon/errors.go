package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"syscall"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

// A badRequest is an error in what was asked for.
type badRequest struct{ error }

func (e badRequest) Unwrap() error { return e.error }

func badRequestf(format string, args ...any) error {
	return badRequest{fmt.Errorf(format, args...)}
}

var (
	errNotExposed = errors.New("no such service is exposed")
	errNoForward  = errors.New("no forward listens there")
	errDown       = errors.New("the node is going down")
	errEndedBadly = errors.New("the node has ended, but not all went well")
)

// codes are tried in order: the first error that err is tells the code.
var codes = []struct {
	err    error
	code   control.Code
	status int
}{
	{overlay.ErrBadTarget, control.CodeBadRequest, http.StatusBadRequest},
	{overlay.ErrBadRule, control.CodeBadRequest, http.StatusBadRequest},
	{credential.ErrInvalid, control.CodeBadRequest, http.StatusBadRequest},
	{overlay.ErrUnknownInvite, control.CodeUnknownInvite, http.StatusNotFound},
	{overlay.ErrInviteUsed, control.CodeInviteUsed, http.StatusForbidden},
	{overlay.ErrNoAdmin, control.CodeNoAdmin, http.StatusBadGateway},
	{credential.ErrUnredeemed, control.CodeNoAdmin, http.StatusBadGateway},
	{credential.ErrRevoked, control.CodeRevoked, http.StatusForbidden}, // before what else a dial met
	{credential.ErrExpired, control.CodeExpired, http.StatusForbidden},
	{credential.ErrNotYetValid, control.CodeBadClock, http.StatusForbidden},
	{credential.ErrWrongMesh, control.CodeOtherMesh, http.StatusForbidden},
	{p2p.ErrOnlyRelay, control.CodeOnlyRelay, http.StatusBadGateway},
	{overlay.ErrUnknownMember, control.CodeUnknownMember, http.StatusNotFound},
	{overlay.ErrNoProvider, control.CodeNoProvider, http.StatusNotFound}, // may have one of the next inside
	{overlay.ErrNoService, control.CodeNoService, http.StatusNotFound},
	{overlay.ErrNotPermitted, control.CodeNotPermitted, http.StatusForbidden},
	{overlay.ErrBusy, control.CodeBusy, http.StatusServiceUnavailable},
	{overlay.ErrNotMember, control.CodeNotMember, http.StatusForbidden},
	{p2p.ErrReset, control.CodeBroken, http.StatusBadGateway},
	{overlay.ErrNotAdmin, control.CodeNotAdmin, http.StatusForbidden},
	{overlay.ErrServiceExists, control.CodeExists, http.StatusConflict},
	{syscall.EADDRINUSE, control.CodeInUse, http.StatusConflict},
	{syscall.EADDRNOTAVAIL, control.CodeNoAddress, http.StatusConflict},
	{os.ErrPermission, control.CodeDenied, http.StatusForbidden},
	{errNotExposed, control.CodeNotFound, http.StatusNotFound},
	{errNoForward, control.CodeNotFound, http.StatusNotFound},
	{errDown, control.CodeOther, http.StatusServiceUnavailable},
}

func codeOf(err error) (control.Code, int) {
	var bad badRequest
	if errors.As(err, &bad) {
		return control.CodeBadRequest, http.StatusBadRequest
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code, c.status
		}
	}
	var ambiguous *overlay.AmbiguousError
	var dial *p2p.DialError
	switch {
	case errors.As(err, &ambiguous):
		return control.CodeAmbiguous, http.StatusConflict
	case errors.As(err, &dial), errors.Is(err, context.DeadlineExceeded):
		return control.CodeUnreachable, http.StatusBadGateway
	}
	return control.CodeOther, http.StatusInternalServerError
}
