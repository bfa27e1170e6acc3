package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/p2pnode/p2pnode/p2p"
)

// maxRequest bounds the body of a request.
const maxRequest = 64 << 10

func (d *Daemon) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answer(func(*http.Request) (any, error) { return d.node(), nil }))
	mux.HandleFunc("GET /v1/members", answer(func(*http.Request) (any, error) { return d.members(), nil }))
	mux.HandleFunc("POST /v1/invites", answer(func(r *http.Request) (any, error) {
		var o control.InviteOptions
		if err := decode(r, &o); err != nil {
			return nil, err
		}
		return d.invite(o)
	}))
	mux.HandleFunc("POST /v1/ping/{member}", answer(func(r *http.Request) (any, error) {
		return d.ping(r.Context(), r.PathValue("member"))
	}))
	mux.HandleFunc("POST /v1/exposed", answer(func(r *http.Request) (any, error) {
		var e control.Exposed
		if err := decode(r, &e); err != nil {
			return nil, err
		}
		return d.expose(e.Service, e.Target)
	}))
	mux.HandleFunc("DELETE /v1/exposed/{service}", answer(func(r *http.Request) (any, error) {
		return nil, d.unexpose(r.PathValue("service"))
	}))
	mux.HandleFunc("POST /v1/forwards", answer(func(r *http.Request) (any, error) {
		var f control.Forward
		if err := decode(r, &f); err != nil {
			return nil, err
		}
		return d.forward(f.Listen, f.Target)
	}))
	mux.HandleFunc("DELETE /v1/forwards/{listen}", answer(func(r *http.Request) (any, error) {
		return nil, d.unforward(r.PathValue("listen"))
	}))
	mux.HandleFunc("POST /v1/dial/{member}/{service}", func(w http.ResponseWriter, r *http.Request) {
		d.dial(w, r, r.PathValue("member")+"/"+r.PathValue("service"))
	})
	mux.HandleFunc("POST /v1/dial/{service}", func(w http.ResponseWriter, r *http.Request) {
		d.dial(w, r, "/"+r.PathValue("service"))
	})
	mux.HandleFunc("POST /v1/down", answer(func(*http.Request) (any, error) {
		d.stop()
		return nil, nil
	}))
	return mux
}

// answer makes a handler of a function that returns what to answer.
func answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		switch {
		case err != nil:
			writeError(w, err)
		case v == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			writeJSON(w, http.StatusOK, v)
		}
	}
}

func decode(r *http.Request, v any) error {
	dec := json.NewDecoder(io.LimitReader(r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return badRequest{fmt.Errorf("request body: %w", err)}
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func writeError(w http.ResponseWriter, err error) {
	code, status := codeOf(err)
	writeJSON(w, status, &control.Error{Version: control.Version, Code: code, Text: err.Error()})
}

// codes are tried in order: the first error that err is tells the code.
var codes = []struct {
	err    error
	code   control.Code
	status int
}{
	{overlay.ErrBadTarget, control.CodeBadRequest, http.StatusBadRequest},
	{credential.ErrInvalid, control.CodeBadRequest, http.StatusBadRequest},
	{overlay.ErrUnknownMember, control.CodeUnknownMember, http.StatusNotFound},
	{overlay.ErrNoService, control.CodeNoService, http.StatusNotFound},
	{overlay.ErrNotPermitted, control.CodeNotPermitted, http.StatusForbidden},
	{overlay.ErrBusy, control.CodeBusy, http.StatusServiceUnavailable},
	{overlay.ErrNoProvider, control.CodeNoProvider, http.StatusNotFound},
	{overlay.ErrNotAdmin, control.CodeNotAdmin, http.StatusForbidden},
	{overlay.ErrServiceExists, control.CodeExists, http.StatusConflict},
	{syscall.EADDRINUSE, control.CodeInUse, http.StatusConflict},
	{errNotFound, control.CodeNotFound, http.StatusNotFound},
}

func codeOf(err error) (control.Code, int) {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code, c.status
		}
	}
	var bad badRequest
	var ambiguous *overlay.AmbiguousError
	var dial *p2p.DialError
	switch {
	case errors.As(err, &bad):
		return control.CodeBadRequest, http.StatusBadRequest
	case errors.As(err, &ambiguous):
		return control.CodeAmbiguous, http.StatusConflict
	case errors.As(err, &dial), errors.Is(err, context.DeadlineExceeded):
		return control.CodeUnreachable, http.StatusBadGateway
	}
	return control.CodeOther, http.StatusInternalServerError
}

// dial opens a stream and ties it to the request's connection.
func (d *Daemon) dial(w http.ResponseWriter, r *http.Request, target string) {
	stream, err := d.mesh.Dial(r.Context(), target)
	if err != nil {
		writeError(w, err)
		return
	}
	conn, err := hijack(w, stream.Path())
	if err != nil {
		d.log.Debug("upgrade", "target", target, "err", err)
		stream.Reset()
		return
	}
	if err := forward.Join(d.ctx, conn, stream); err != nil {
		d.log.Debug("stream broke", "target", target, "err", err)
	}
}

func hijack(w http.ResponseWriter, path p2p.Path) (net.Conn, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nP2pnode-Path: %v\r\n\r\n", control.Protocol, path)
	if err := buf.Flush(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if n := buf.Reader.Buffered(); n > 0 {
		return nil, errors.Join(fmt.Errorf("%d bytes came before the upgrade", n), conn.Close())
	}
	return conn, nil
}
