package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
)

// maxRequest bounds the body of a request, in bytes.
const maxRequest = 64 << 10

// bodyTimeout is how long it may take to arrive.
const bodyTimeout = 10 * time.Second

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
		"POST /v1/forwards/several": func(r *http.Request) (any, error) {
			all, err := decode[[]control.Forward](r)
			if err != nil {
				return nil, err
			}
			return d.forwardAll(all)
		},
		"DELETE /v1/forwards": func(r *http.Request) (any, error) { return nil, d.unforward(query(r, "listen")) },
		"POST /v1/proxies": func(r *http.Request) (any, error) {
			p, err := decode[control.Proxy](r)
			if err != nil {
				return nil, err
			}
			return d.beginProxy(p)
		},
		"DELETE /v1/proxies": func(r *http.Request) (any, error) { return nil, d.unproxy(query(r, "listen")) },
		"GET /v1/services":   func(r *http.Request) (any, error) { return d.services(r.Context()), nil },
		"POST /v1/wait": func(r *http.Request) (any, error) {
			w, err := decode[control.Wait](r)
			if err != nil {
				return nil, err
			}
			return nil, d.wait(r.Context(), w)
		},
		"POST /v1/reload": func(*http.Request) (any, error) { return d.reload() },
		"POST /v1/down":   func(*http.Request) (any, error) { return nil, d.goDown() },
	} {
		mux.HandleFunc(pattern, d.answer(f))
	}
	mux.HandleFunc("POST /v1/dial", func(w http.ResponseWriter, r *http.Request) { d.dial(w, r, query(r, "target")) })
	mux.HandleFunc("POST /v1/dial/{service}", func(w http.ResponseWriter, r *http.Request) { d.dial(w, r, "/"+r.PathValue("service")) })
	mux.HandleFunc("POST /v1/dial/{member}/{service}", func(w http.ResponseWriter, r *http.Request) {
		d.dial(w, r, r.PathValue("member")+"/"+r.PathValue("service"))
	})
	mux.HandleFunc("GET /v1/streams/{id}", d.answer(func(r *http.Request) (any, error) { return d.raw.outcome(r.PathValue("id")) }))
	mux.HandleFunc("GET /v1/events", d.tellEvents)
	return d.guard(mux)
}

// answer makes a handler of a function that returns what to answer.
func (d *Daemon) answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := readBody(w, r)
		var v any
		if err == nil {
			v, err = f(r)
		}
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

// readBody has a request's body in memory before anything is done, so that nothing is
// kept waiting by who sends it slowly.
func readBody(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		w.Header().Set("Connection", "close") // where it ends is not known
		return badRequestf("request body: %w", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return control.SetReadDeadline(time.Time{}) // the server goes on to read, to see whether the client is there
}

// wantNoBody returns an error if a request has a body that nobody would read: who sends
// it could wait for ever for the answer that follows.
func wantNoBody(r *http.Request) error {
	if r.ContentLength != 0 {
		return badRequestf("request body: want none")
	}
	return nil
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
