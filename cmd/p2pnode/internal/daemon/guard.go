package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
)

// hosts are what a request may be to. A page of the web that was led here under a name
// of its own says that name.
var hosts = []string{"node", "localhost"}

var (
	errForeign  = errors.New("not for pages of the web")
	errNoRoute  = errors.New("there is no such path")
	errNoMethod = errors.New("there is no such method")
)

// guard lets through what programs ask, and answers what no route does as the routes do.
func (d *Daemon) guard(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := refuse(r); err != nil {
			d.writeError(w, err)
			return
		}
		if h, pattern := mux.Handler(r); pattern == "" {
			d.writeError(w, unrouted(w, r, h))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// refuse returns why a request is not to be answered. A browser can't reach the socket;
// it may reach who passes on what it sends, and says itself what its pages ask for.
func refuse(r *http.Request) error {
	if r.Host != hosts[0] && r.Host != hosts[1] {
		return fmt.Errorf("host %.80q: %w: the host is %s", r.Host, errForeign, strings.Join(hosts, " or "))
	}
	for name := range r.Header {
		if name == "Origin" || strings.HasPrefix(name, "Sec-Fetch-") {
			return fmt.Errorf("header %s: %w", name, errForeign)
		}
	}
	if r.URL.Path != path.Clean(r.URL.Path) || r.URL.Host != "" && r.URL.Host != r.Host {
		return fmt.Errorf("%.80q: %w", r.URL.Path, errNoRoute)
	}
	return nil
}

// unrouted returns why a request meets no route. The mux knows the methods that there
// are.
func unrouted(w http.ResponseWriter, r *http.Request, h http.Handler) error {
	said := header{}
	h.ServeHTTP(said, r)
	allow := http.Header(said).Get("Allow")
	if allow == "" {
		return fmt.Errorf("%.80q: %w", r.URL.Path, errNoRoute)
	}
	w.Header().Set("Allow", allow)
	return fmt.Errorf("%.20s %.80s: %w: want %s", r.Method, r.URL.Path, errNoMethod, allow)
}

// A header is an answer of which only that is kept.
type header http.Header

func (h header) Header() http.Header       { return http.Header(h) }
func (header) Write(p []byte) (int, error) { return len(p), nil }
func (header) WriteHeader(int)             {}
