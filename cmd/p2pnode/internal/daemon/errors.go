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
	"github.com/p2pnode/p2pnode/overlay/forward"
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
	errNoProxy    = errors.New("no proxy listens there")
	errFromConfig = errors.New("it is in the node's configuration file")
	errDown       = errors.New("the node is going down")
	errNoStream   = errors.New("no such stream is remembered")
	errUpgrade    = errors.New("no protocol that a stream can have")
	errEndedBadly = errors.New("the node has ended, but not all went well")
)

// codes are tried in order: the first error that err is tells the code.
var codes = []struct {
	err    error
	code   control.Code
	status int
}{
	{errBadConfig, control.CodeBadConfig, http.StatusConflict}, // whatever is wrong with it
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
	{os.ErrNotExist, control.CodeNoAddress, http.StatusConflict}, // the directory of a socket
	{syscall.ENOTDIR, control.CodeNoAddress, http.StatusConflict},
	{os.ErrPermission, control.CodeDenied, http.StatusForbidden},
	{errNotExposed, control.CodeNotFound, http.StatusNotFound},
	{errNoForward, control.CodeNotFound, http.StatusNotFound},
	{errNoStream, control.CodeNotFound, http.StatusNotFound},
	{errNoRoute, control.CodeNotFound, http.StatusNotFound},
	{errNoMethod, control.CodeBadRequest, http.StatusMethodNotAllowed},
	{errForeign, control.CodeForeign, http.StatusForbidden},
	{errReaders, control.CodeBusy, http.StatusServiceUnavailable},
	{errNoProxy, control.CodeNotFound, http.StatusNotFound},
	{forward.ErrNotMesh, control.CodeNotMesh, http.StatusForbidden},
	{errNoConfig, control.CodeNoConfig, http.StatusConflict},
	{errFromConfig, control.CodeFromConfig, http.StatusConflict},
	{errDown, control.CodeOther, http.StatusServiceUnavailable},
}

func codeOf(err error) (control.Code, int) {
	if errors.Is(err, errUpgrade) {
		return control.CodeBadRequest, http.StatusUpgradeRequired
	}
	var bad badRequest
	if errors.As(err, &bad) && !errors.Is(err, errBadConfig) {
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
