package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// ErrNotMesh says that a [Proxy] was asked for a host that is not of the mesh,
// and dials no others.
var ErrNotMesh = errors.New("not a name of the mesh, such as web.alice.mesh or web.mesh")

// ErrNotLocal says that a [Proxy] for other hosts than the mesh's was to listen where
// other machines reach it.
var ErrNotLocal = errors.New("a proxy for hosts outside the mesh listens on loopback or a unix socket alone")

// errBadHost says that a client has asked for what can't be a host and a port.
var errBadHost = errors.New("not a host and a port")

// meshDomain ends the host names that a Dialer knows.
const meshDomain = ".mesh"

const (
	defaultHeaderTimeout = 10 * time.Second

	// lingerTime is how long a client that was refused may go on sending before
	// its connection is closed, and lingerBytes how much: to close it with
	// something unread would take the answer away from it.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 64 << 10
)

// A ProxyConfig holds what one may want to set for a [Proxy]. The zero
// ProxyConfig works.
type ProxyConfig struct {
	// Others dials what is not of the mesh, by host and port; a [net.Dialer] does
	// so straight. If nil, such hosts are refused with [ErrNotMesh]. Others may be
	// set for a proxy on loopback or a unix socket alone, or whoever reaches the
	// proxy would be in this machine's network; else the error is [ErrNotLocal].
	Others Dialer

	// DialTimeout bounds each dial. Zero means 30 seconds.
	DialTimeout time.Duration

	// HeaderTimeout bounds how long a client may take to say what it wants. Zero
	// means 10 seconds.
	HeaderTimeout time.Duration

	// MaxOpen bounds the clients' connections that are open at the same time.
	// While there are as many, new ones wait to be accepted. Zero means 4096.
	MaxOpen int

	// Hint, if not nil, returns what may help against a failure of a dial, for the
	// answer to the client, or "". It may be called by several goroutines at once.
	Hint func(error) string

	// Logger gets a line for each failure to accept or to dial that differs from
	// the one before it, and at debug level one for each connection that broke. If
	// nil, nothing is logged.
	Logger *slog.Logger
}

func (c ProxyConfig) withDefaults() (ProxyConfig, Config, error) {
	both, err := Config{DialTimeout: c.DialTimeout, MaxOpen: c.MaxOpen, Logger: c.Logger}.withDefaults(defaultForwardDialTimeout)
	if c.HeaderTimeout < 0 {
		err = errors.Join(err, fmt.Errorf("Config.HeaderTimeout is negative: %v", c.HeaderTimeout))
	}
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, defaultHeaderTimeout)
	if c.Hint == nil {
		c.Hint = func(error) string { return "" }
	}
	return c, both, err
}

// A Proxy is a SOCKS 5 and an HTTP proxy on one local socket. Programs that know
// proxies reach services through it by host name: web.alice.mesh is alice's web,
// web.mesh the nearest. The port says nothing. Its methods may be called at the
// same time.
//
// Of SOCKS 5 it knows the command CONNECT, without a password and with host names
// (what curl calls socks5h); of HTTP it knows CONNECT, and requests for http URLs,
// which it passes on as they are. A client is told why it is refused: over HTTP
// with the status 502, or 400, 403 or 504, whose body is the reason, over SOCKS
// with a reply code. A connection that was agreed on ends as the package comment
// tells. A request for a URL is given up when its client has ended its side, as HTTP's
// servers do: nothing else tells that it is gone.
type Proxy struct {
	acceptor *acceptor
	mesh     Dialer
	cfg      ProxyConfig

	requests  chan net.Conn   // to the HTTP server
	pass      http.Handler    // of requests for URLs
	transport *http.Transport // on which they go
}

// NewProxy listens on an address, and has those who connect there dial services
// by mesh. A unix socket is made as by [NewForward].
func NewProxy(mesh Dialer, listen Address, c ProxyConfig) (*Proxy, error) {
	c, both, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	ln, err := listenOn(listen, both)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if c.Others != nil && !forThisMachine(ln.Addr()) {
		ln.Close()
		return nil, fmt.Errorf("proxy: listen on %v: %w", listen, ErrNotLocal)
	}
	both.Logger = both.Logger.With("proxy", ln.Addr().String())
	p := &Proxy{mesh: mesh, cfg: c, acceptor: makeAcceptor(ln, both)}
	p.acceptor.how = p.serve
	p.startHTTP()
	p.acceptor.wg.Go(p.acceptor.run)
	return p, nil
}

// forThisMachine tells whether only this machine can connect to an address.
func forThisMachine(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// Addr returns the address that clients connect to. If the port was 0, here it
// is the one that was chosen.
func (p *Proxy) Addr() net.Addr { return p.acceptor.ln.Addr() }

// Address returns the same as ParseAddress reads it.
func (p *Proxy) Address() Address { return asAddress(p.Addr()) }

// Stats returns the counts up to now. It may be called after Close. Other hosts
// count as the mesh does.
func (p *Proxy) Stats() Stats { return p.acceptor.stats() }

// Close stops listening, removes the unix socket if there is one, resets the
// connections that are open and waits until all has ended. It may be called more
// than once.
func (p *Proxy) Close() error {
	err := p.acceptor.close()
	p.transport.CloseIdleConnections()
	return err
}

// serve finds out what a client speaks, and serves it. It returns why its
// connection broke.
func (p *Proxy) serve(client net.Conn) error {
	// A Close that comes before there are two connections to reset.
	stop := context.AfterFunc(p.acceptor.ctx, func() { reset(client) })
	defer stop()
	_ = client.SetReadDeadline(time.Now().Add(p.cfg.HeaderTimeout))
	var first [1]byte
	if _, err := io.ReadFull(client, first[:]); err != nil {
		client.Close()
		if err == io.EOF {
			return nil // it only looked whether anybody listens
		}
		return fmt.Errorf("nothing was asked for: %w", reason(err))
	}
	switch first[0] {
	case socks5:
		return p.serveSOCKS(client)
	case socks4:
		return p.refuseSOCKS4(client)
	}
	p.serveRequests(client, first[0])
	return nil
}

// dial dials what a client has asked for, which is a host and a port. It counts
// and logs a failure.
func (p *Proxy) dial(asked string) (net.Conn, error) {
	a := p.acceptor
	addr, dialer, err := p.route(asked)
	if err == nil {
		ctx, cancel := context.WithTimeout(a.ctx, a.cfg.DialTimeout)
		defer cancel()
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, "tcp", addr); err == nil {
			a.meter.recovered()
			return conn, nil
		}
	}
	a.meter.failed.Add(1)
	if a.ctx.Err() == nil {
		a.complain("client refused", err)
	}
	return nil, err
}

// route returns what is dialled, and by whom.
func (p *Proxy) route(asked string) (addr string, by Dialer, err error) {
	host, port, err := net.SplitHostPort(asked)
	if err == nil {
		_, err = parsePort(port)
	}
	_, notIP := netip.ParseAddr(host)
	if err == nil && notIP != nil {
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		err = checkName(host)
	}
	if err != nil {
		return "", nil, fmt.Errorf("%.300q: %w", asked, errBadHost)
	}
	addr = net.JoinHostPort(host, port)
	switch {
	case strings.HasSuffix(host, meshDomain):
		return addr, p.mesh, nil
	case p.cfg.Others == nil:
		return "", nil, fmt.Errorf("%s: %w", host, ErrNotMesh)
	}
	return addr, p.cfg.Others, nil
}

// linger closes the connection of a client that was refused.
func linger(client net.Conn) {
	if c, ok := client.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
		_ = client.SetDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, client, lingerBytes)
	}
	_ = client.Close()
}
