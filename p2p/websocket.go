package p2p

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	ws "github.com/gorilla/websocket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// A webSocket is go-libp2p's transport with a way to dial of its own. That of
// go-libp2p takes a proxy from the process's environment, and is silent about it
// in its errors and addresses.
type webSocket struct {
	*websocket.WebsocketTransport
	upgrader  transport.Upgrader
	resources network.ResourceManager
	proxy     func(*url.URL) (*url.URL, error) // nil if there is none
	timeout   time.Duration
	log       *dialLog
}

func newWebSocket(c Config, up transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr, log *dialLog) (*webSocket, error) {
	shown, err := webSocketTLS(c.Certificate)
	if err != nil {
		return nil, err
	}
	t, err := websocket.New(up, rm, shared, websocket.WithTLSConfig(shown),
		websocket.WithHTTPHandler(http.NotFoundHandler()), websocket.WithHTTPServerConfig(holdStrangers))
	if err != nil {
		return nil, err
	}
	return &webSocket{t, up, rm, c.Proxy, c.DialTimeout, log}, nil
}

// maxWebSocketHeader is some times what a client sends, and proxies add.
const maxWebSocketHeader = 8 << 10

// holdStrangers bounds what somebody costs who has not proven a key yet: little memory,
// one request, and no longer than other ways to begin.
func holdStrangers(s *http.Server) {
	s.MaxHeaderBytes = maxWebSocketHeader
	s.ReadTimeout, s.ReadHeaderTimeout, s.WriteTimeout = firstBytesTimeout, firstBytesTimeout, firstBytesTimeout
	s.SetKeepAlivesEnabled(false)
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
}

// Dial connects to a peer, through a proxy where there is one.
func (t *webSocket) Dial(ctx context.Context, addr multiaddr.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	to, err := t.target(addr)
	if err != nil {
		return nil, err
	}
	return t.log.runWaiting(id, addr, to.blame(errNoAnswer), func() (transport.CapableConn, error) {
		c, err := t.dial(ctx, to, id)
		return c, to.blame(err)
	})
}

// SkipResolve leaves names to the proxy, which knows those that this machine may
// not.
func (t *webSocket) SkipResolve(_ context.Context, addr multiaddr.Multiaddr) bool {
	to, err := t.target(addr)
	return err == nil && to.proxy != nil && isDNS(addr)
}

func (t *webSocket) dial(ctx context.Context, to webSocketTarget, id peer.ID) (_ transport.CapableConn, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	scope, err := t.resources.OpenConnection(network.DirOutbound, true, to.addr)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			scope.Done()
		}
	}()
	raw, err := to.connect(ctx, scope)
	if err != nil {
		return nil, err
	}
	c, err := t.upgrader.Upgrade(ctx, t, raw, network.DirOutbound, id, scope)
	if err != nil {
		return nil, err
	}
	return capableWebSocket{c}, nil
}

// A webSocketTarget is where a dial goes, and how.
type webSocketTarget struct {
	addr  multiaddr.Multiaddr
	host  string   // host:port to connect to
	url   url.URL  // to ask for there
	proxy *url.URL // nil if none is to be asked
}

func (t *webSocket) target(addr multiaddr.Multiaddr) (webSocketTarget, error) {
	at, err := websocket.ConvertWebsocketMultiaddrToNetAddr(addr)
	if err != nil {
		return webSocketTarget{}, err
	}
	to := webSocketTarget{addr: addr, url: *at.(*websocket.Addr).URL}
	to.host = to.url.Host
	if name, err := addr.ValueForProtocol(multiaddr.P_SNI); err == nil {
		to.url.Host = net.JoinHostPort(name, to.url.Port())
	}
	if t.proxy == nil {
		return to, nil
	}
	// A tunnel is asked for in either case, which RFC 6455, section 4.1, has the
	// proxy for HTTPS do.
	to.proxy, err = t.proxy(&url.URL{Scheme: "https", Host: to.host})
	if err != nil {
		return to, fmt.Errorf("choose a proxy: %w", err)
	}
	return to, nil
}

// blame makes an error one of the proxy's, if there is one in between.
func (to webSocketTarget) blame(err error) error {
	if err == nil || to.proxy == nil {
		return err
	}
	return newProxyError(to.proxy, to.host, err)
}

// connect makes a WebSocket, in a tunnel if there is a proxy. What TLS is under it
// proves nothing: that is what the peer's key is for, and its handshake follows.
func (to webSocketTarget) connect(ctx context.Context, scope network.ConnManagementScope) (manet.Conn, error) {
	var raw net.Conn
	var stop func() bool
	dialer := ws.Dialer{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}},
		NetDialContext: func(ctx context.Context, _, _ string) (_ net.Conn, err error) {
			if raw, err = dialThrough(ctx, to.proxy, to.host); err != nil {
				return nil, err
			}
			stop = context.AfterFunc(ctx, func() { raw.Close() }) // the dialer knows deadlines alone
			return raw, nil
		},
	}
	c, answer, err := dialer.DialContext(ctx, to.url.String(), nil)
	if stop != nil && !stop() && err == nil {
		c.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, orCause(ctx, webSocketError(answer, err))
	}
	out := &webSocketConn{Conn: &websocket.Conn{Conn: c, Scope: scope, DefaultMessageType: ws.BinaryMessage}, remote: to.addr}
	out.close = sync.OnceValue(out.hangUp)
	if out.local, err = manet.FromNetAddr(out.LocalAddr()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return out, nil
}

// webSocketError says what is there that is no node: a page of a proxy or of a
// network that wants one to log in first.
func webSocketError(answer *http.Response, err error) error {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, ws.ErrBadHandshake) && answer != nil:
		return newPageError(answer)
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return &pageError{what: "a page without TLS"}
	case errors.As(err, &record):
		return errors.New("what answers there does not speak TLS")
	}
	return err
}

// A webSocketConn is go-libp2p's with the address of the peer, where that
// of a proxy would be.
type webSocketConn struct {
	*websocket.Conn
	local, remote multiaddr.Multiaddr
	close         func() error
}

func (c *webSocketConn) LocalMultiaddr() multiaddr.Multiaddr  { return c.local }
func (c *webSocketConn) RemoteMultiaddr() multiaddr.Multiaddr { return c.remote }
func (c *webSocketConn) Close() error                         { return c.close() }

// RemoteAddr returns the peer's address.
func (c *webSocketConn) RemoteAddr() net.Addr {
	if a, err := websocket.ConvertWebsocketMultiaddrToNetAddr(c.remote); err == nil {
		return a
	}
	return c.Conn.RemoteAddr()
}

// hangUp is what go-libp2p does: it says goodbye if that takes no time.
func (c *webSocketConn) hangUp() error {
	_ = c.SetReadDeadline(time.Now())
	bye := ws.FormatCloseMessage(ws.CloseNormalClosure, "closed")
	_ = c.Conn.Conn.WriteControl(ws.CloseMessage, bye, time.Now().Add(websocket.GracefulCloseTimeout))
	return c.Conn.Conn.Close()
}

type capableWebSocket struct{ transport.CapableConn }

func (c capableWebSocket) ConnState() network.ConnectionState {
	state := c.CapableConn.ConnState()
	state.Transport = "websocket"
	return state
}
