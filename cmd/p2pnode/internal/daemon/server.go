package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/p2pnode/p2pnode/p2p"
)

// maxRequest bounds the body of a request, in bytes.
const maxRequest = 64 << 10

func (d *Daemon) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(*http.Request) (any, error){
		"GET /v1/status":  func(*http.Request) (any, error) { return d.node(), nil },
		"GET /v1/members": func(*http.Request) (any, error) { return d.members(), nil },
		"POST /v1/invites": func(r *http.Request) (any, error) {
			o, err := decode[control.InviteOptions](r)
			if err != nil {
				return nil, err
			}
			return d.invite(o)
		},
		"GET /v1/invites": func(*http.Request) (any, error) { return d.invites() },
		"POST /v1/revocations": func(r *http.Request) (any, error) {
			o, err := decode[control.Revocation](r)
			if err != nil {
				return nil, err
			}
			return d.revoke(r.Context(), o)
		},
		"POST /v1/leave": func(r *http.Request) (any, error) { return d.leave(r.Context()) },
		"POST /v1/whois": func(r *http.Request) (any, error) { return d.whois(r.Context(), query(r, "member")) },
		"POST /v1/ping": func(r *http.Request) (any, error) {
			return d.ping(r.Context(), query(r, "member"), query(r, "upgrade") != "")
		},
		"GET /v1/doctor":  func(r *http.Request) (any, error) { return d.examine(r, false) },
		"POST /v1/doctor": func(r *http.Request) (any, error) { return d.examine(r, true) },
		"POST /v1/exposed": func(r *http.Request) (any, error) {
			e, err := decode[control.Exposed](r)
			if err != nil {
				return nil, err
			}
			return d.expose(e)
		},
		"GET /v1/access": func(*http.Request) (any, error) { return d.listAccess(), nil },
		"POST /v1/access": func(r *http.Request) (any, error) {
			a, err := decode[control.Access](r)
			if err != nil {
				return nil, err
			}
			return d.editAccess(a)
		},
		"DELETE /v1/exposed": func(r *http.Request) (any, error) { return nil, d.unexpose(query(r, "service")) },
		"POST /v1/forwards": func(r *http.Request) (any, error) {
			f, err := decode[control.Forward](r)
			if err != nil {
				return nil, err
			}
			return d.forward(f)
		},
		"DELETE /v1/forwards": func(r *http.Request) (any, error) { return nil, d.unforward(query(r, "listen")) },
		"POST /v1/down":       func(*http.Request) (any, error) { return nil, d.goDown() },
	} {
		mux.HandleFunc(pattern, d.answer(f))
	}
	mux.HandleFunc("POST /v1/dial", d.dial)
	return mux
}

// answer makes a handler of a function that returns what to answer.
func (d *Daemon) answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		v, err := f(r)
		switch {
		case err != nil:
			d.writeError(w, err)
		case v == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			writeJSON(w, http.StatusOK, v)
		}
	}
}

func query(r *http.Request, key string) string { return r.URL.Query().Get(key) }

// decode reads a request's body, which is one JSON value and nothing else.
func decode[T any](r *http.Request) (v T, err error) {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return v, badRequestf("request body: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return v, badRequestf("request body: more than one value")
	}
	return v, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func (d *Daemon) writeError(w http.ResponseWriter, err error) {
	if d.ctx.Err() != nil && !errors.Is(err, errEndedBadly) {
		err = errDown // whatever it broke first
	}
	code, status := codeOf(err)
	writeJSON(w, status, &control.Error{Version: control.Version, Code: code, Text: err.Error()})
}

// dial opens a stream and ties it to the request's connection.
func (d *Daemon) dial(w http.ResponseWriter, r *http.Request) {
	d.streams.Add(1) // before the server forgets the connection
	defer d.streams.Done()
	target := query(r, "target")
	ctx, err := dialContext(r)
	if err != nil {
		d.writeError(w, err)
		return
	}
	stream, err := d.mesh.Dial(ctx, target)
	if err != nil {
		d.writeError(w, err)
		return
	}
	conn, err := upgrade(w, stream.Path())
	if err != nil {
		d.log.Debug("upgrade", "service", target, "err", err)
		stream.Reset()
		return
	}
	if err := forward.Join(d.ctx, untold{conn}, stream); err != nil {
		d.log.Debug("stream broke", "service", target, "err", err)
		d.tell(conn, err)
	}
}

// dialContext returns a request's context, with which is dialed as is asked for: past
// relays, or for a stream that ends with its connection.
func dialContext(r *http.Request) (context.Context, error) {
	ctx := r.Context()
	if query(r, "plain") != "" {
		ctx = p2p.Plain(ctx)
	}
	asked := query(r, "direct")
	if asked == "" {
		return ctx, nil
	}
	wait, err := time.ParseDuration(asked)
	if err != nil || wait < 0 {
		return nil, badRequestf("direct %.80q: not how long to wait for a direct path", asked)
	}
	return p2p.WaitDirect(ctx, wait), nil
}

// An untold is a stream to a command that is still to be told why it breaks.
type untold struct{ *control.Conn }

// Reset wakes whoever waits on the stream.
func (u untold) Reset() error { return u.SetDeadline(time.Unix(1, 0)) }

// tell gives a stream to a command up, and tells why if that is more than that
// it broke.
func (d *Daemon) tell(conn *control.Conn, err error) {
	if out := d.mesh.Err(); out != nil && !errors.Is(out, net.ErrClosed) {
		err = out
	} else if cause := errors.Unwrap(err); cause != nil {
		err = cause // without the ends of the joint, which say nothing to a user
	}
	code, _ := codeOf(err)
	lost := errors.Is(err, p2p.ErrTimeLimit) || errors.Is(err, p2p.ErrUnknownStream)
	switch {
	case lost, code == control.CodeRevoked, code == control.CodeExpired, code == control.CodeNotPermitted, code == control.CodeNotMember:
		err = conn.Abort(&control.Error{Version: control.Version, Code: code, Text: err.Error()})
	default:
		err = conn.Reset()
	}
	if err != nil {
		d.log.Debug("tell that a stream broke", "err", err)
	}
}

// upgrade takes a request's connection for a stream.
func upgrade(w http.ResponseWriter, path p2p.Path) (*control.Conn, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %v\r\n\r\n", control.Protocol, control.PathHeader, path)
	if err := buf.Flush(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return control.NewConn(conn, buf.Reader), nil
}
