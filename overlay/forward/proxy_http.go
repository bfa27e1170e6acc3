package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/things-go/go-socks5/statute"
)

const (
	// maxRequestHeader and maxAnswerHeader bound headers, in bytes.
	maxRequestHeader = 64 << 10
	maxAnswerHeader  = 256 << 10

	// requestIdle is how long a client may wait with its next request, and
	// answerIdle how long a stream is kept for one.
	requestIdle = 2 * time.Minute
	answerIdle  = 30 * time.Second

	// maxIdle bounds the streams that are kept.
	maxIdle = 64
)

// A requester is a client that speaks HTTP. It is the server's until that hands it
// out for a stream.
type requester struct {
	net.Conn
	first  []byte        // what was read, and is to be read again
	taken  bool          // from the server
	served chan struct{} // closed when it has ended
}

type requesterKey struct{}

func (r *requester) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

// CloseWrite has the server wait until a client that is refused has read why.
func (r *requester) CloseWrite() error {
	if c, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// serveRequests has the HTTP server serve a client, of which one byte was read, and
// waits until that has ended.
func (p *Proxy) serveRequests(client net.Conn, first byte) {
	r := &requester{Conn: client, first: []byte{first}, served: make(chan struct{})}
	select {
	case p.requests <- r:
		<-r.served
	case <-p.acceptor.ctx.Done(): // which resets it
	}
}

// requestListener gives the server its clients.
type requestListener struct {
	net.Listener // for its address
	requests     <-chan net.Conn
	over         <-chan struct{}
}

func (l requestListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.requests:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

// startHTTP sets up what serves clients that speak HTTP, until Close.
func (p *Proxy) startHTTP() {
	a := p.acceptor
	complaints := slog.NewLogLogger(a.cfg.Logger.Handler(), slog.LevelDebug)
	p.requests = make(chan net.Conn)
	p.transport = &http.Transport{
		DialContext:            func(_ context.Context, _, addr string) (net.Conn, error) { return p.dialCounted(addr) },
		DisableCompression:     true,
		MaxIdleConns:           maxIdle,
		IdleConnTimeout:        answerIdle,
		MaxResponseHeaderBytes: maxAnswerHeader,
		ExpectContinueTimeout:  time.Second,
	}
	p.pass = &httputil.ReverseProxy{
		Rewrite:        keepForwarded,
		Transport:      p.transport,
		FlushInterval:  -1,
		ErrorLog:       complaints,
		ModifyResponse: breakWithBody,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			a.cfg.Logger.Debug("request failed", "url", r.URL.Redacted(), "err", err)
			p.refuse(w, r, err)
		},
	}
	server := &http.Server{
		Handler:                      http.HandlerFunc(p.serveRequest),
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            p.cfg.HeaderTimeout,
		IdleTimeout:                  requestIdle,
		MaxHeaderBytes:               maxRequestHeader,
		ErrorLog:                     complaints,
		BaseContext:                  func(net.Listener) context.Context { return a.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, requesterKey{}, c)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			switch r := c.(*requester); state {
			case http.StateHijacked:
				r.taken = true
			case http.StateClosed:
				close(r.served)
			}
		},
	}
	a.wg.Go(func() { _ = server.Serve(requestListener{a.ln, p.requests, a.ctx.Done()}) }) // that it is closed
}

func (p *Proxy) serveRequest(w http.ResponseWriter, r *http.Request) {
	client := r.Context().Value(requesterKey{}).(*requester)
	defer func() {
		if client.taken {
			close(client.served)
		}
	}()
	switch {
	case r.Method == http.MethodConnect:
		p.connect(w, r, client)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		p.pass.ServeHTTP(w, r)
	case r.URL.Scheme != "":
		answer(w, http.StatusBadRequest, fmt.Sprintf("%.40s: this proxy passes requests on for http URLs, and else CONNECT", r.URL.Scheme))
	default:
		answer(w, http.StatusBadRequest, fmt.Sprintf("this is a proxy, and no web server: tell a program to use it, as\ncurl --proxy %s http://web.alice.mesh/", p.Addr()))
	}
}

// connect ties a client to what it has asked for.
func (p *Proxy) connect(w http.ResponseWriter, r *http.Request, client *requester) {
	a := p.acceptor
	dialled, err := p.dial(r.Host)
	if err != nil {
		w.Header().Set("Connection", "close")
		p.refuse(w, r, err)
		return
	}
	_, unread, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, err = io.WriteString(client.Conn, "HTTP/1.1 200 Connected\r\n\r\n")
	}
	if err != nil {
		reset(client.Conn)
		reset(dialled)
		a.broken(reason(err))
		return
	}
	var conn net.Conn = client.Conn // by itself it may be a kernel socket
	if unread.Reader.Buffered() > 0 {
		conn = &hasty{conn, unread.Reader}
	}
	a.broken(join(a.ctx, conn, dialled, &a.meter))
}

// A hasty client has sent more than its request before it was answered.
type hasty struct {
	net.Conn
	unread *bufio.Reader // has that, and then reads on
}

func (h *hasty) Read(p []byte) (int, error) { return h.unread.Read(p) }

func (h *hasty) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

func (h *hasty) Reset() error {
	reset(h.Conn)
	return nil
}

// keepForwarded undoes the one change that a ReverseProxy makes by itself to a
// request, besides what goes from hop to hop.
func keepForwarded(r *httputil.ProxyRequest) {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = values
		}
	}
	r.Out.Host = r.In.Host
}

// breakWithBody has the client's connection reset when the body of an answer breaks
// off, lest a client that takes the connection's end for that of the body be misled.
func breakWithBody(resp *http.Response) error {
	client, ok := resp.Request.Context().Value(requesterKey{}).(*requester)
	if ok && resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = &brittle{resp.Body, client.Conn}
	}
	return nil
}

type brittle struct {
	io.ReadCloser
	client net.Conn
}

func (b *brittle) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if c, ok := b.client.(interface{ SetLinger(sec int) error }); ok && endOrError(err) != nil {
		_ = c.SetLinger(0) // makes the Close that follows send a RST
	}
	return n, err
}

// A counted is a connection on which requests go, one after the other.
type counted struct {
	net.Conn
	meter *meter
	once  sync.Once
	done  chan struct{}
}

// dialCounted is dial whose connection counts what it moves, and ends with the proxy.
func (p *Proxy) dialCounted(addr string) (net.Conn, error) {
	a := p.acceptor
	conn, err := p.dial(addr)
	if err != nil {
		return nil, err
	}
	c := &counted{Conn: conn, meter: &a.meter, done: make(chan struct{})}
	watched := a.start(func() {
		select {
		case <-c.done:
		case <-a.ctx.Done():
			reset(conn)
		}
	})
	if !watched {
		reset(conn)
		return nil, context.Cause(a.ctx)
	}
	return c, nil
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.meter.toAccepted.Add(uint64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.meter.toDialled.Add(uint64(n))
	return n, err
}

func (c *counted) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

func (c *counted) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

// A refusal is how a client is told of a failure: by HTTP's status and, for those who
// look, by what RFC 9209 calls it, or by a reply code of SOCKS.
type refusal struct {
	status int
	kind   string
	reply  byte
}

func refusalOf(err error) refusal {
	switch {
	case errors.Is(err, ErrNotMesh):
		return refusal{http.StatusForbidden, "http_request_denied", statute.RepRuleFailure}
	case errors.Is(err, errBadHost):
		return refusal{http.StatusBadRequest, "http_request_error", statute.RepServerFailure}
	case isRefused(err):
		return refusal{http.StatusBadGateway, "connection_refused", statute.RepConnectionRefused}
	case errors.Is(err, syscall.ENETUNREACH):
		return refusal{http.StatusBadGateway, "destination_ip_unroutable", statute.RepNetworkUnreachable}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return refusal{http.StatusGatewayTimeout, "connection_timeout", statute.RepTTLExpired}
	}
	return refusal{http.StatusBadGateway, "destination_unavailable", statute.RepHostUnreachable}
}

// refuse tells a client why it can't have what it has asked for.
func (p *Proxy) refuse(w http.ResponseWriter, asked *http.Request, err error) {
	if client, ok := asked.Context().Value(requesterKey{}).(*requester); ok && p.acceptor.ctx.Err() != nil {
		reset(client.Conn) // before its end can be taken for an answer
		return
	}
	r := refusalOf(err)
	text := err.Error()
	w.Header().Set("Proxy-Status", fmt.Sprintf(`p2pnode; error=%s; details="%s"`, r.kind, quotable(text)))
	if hint := p.cfg.Hint(err); hint != "" {
		text += "\n" + hint
	}
	answer(w, r.status, text)
}

func answer(w http.ResponseWriter, status int, text string) {
	http.Error(w, text, status)
}

// quotable makes of a text what can stand between quotes in a header.
func quotable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < ' ' || r > '~':
			return ' '
		}
		return r
	}, text)
}
