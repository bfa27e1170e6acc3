package p2p

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/proxy"
)

// A ProxyError says why a proxy did not lead to a peer.
type ProxyError struct {
	Proxy  string // its URL, with no password
	Target string // the host and port that it was asked for
	Status int    // of HTTP, that it refused with; zero if it did not
	Err    error
}

func newProxyError(proxy *url.URL, target string, err error) error {
	out := &ProxyError{Proxy: proxy.Redacted(), Target: target, Err: err}
	var status proxyStatus
	if errors.As(err, &status) {
		out.Status = status.code
	}
	return out
}

func (e *ProxyError) Error() string {
	return fmt.Sprintf("proxy %s asked for %s: %v", e.Proxy, e.Target, e.Err)
}

func (e *ProxyError) Unwrap() error { return e.Err }

// proxyStatus is an answer that makes no tunnel.
type proxyStatus struct {
	code  int
	leads string // to where, if it is a redirection
}

func (s proxyStatus) Error() string {
	text := statusText(s.code)
	if s.leads != "" {
		text += ", to " + s.leads
	}
	return text
}

// statusText is not what the other end calls it, which may be anything.
func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// A pageError says that a page was the answer, which is what networks give that
// want one to log in first.
type pageError struct{ what string }

func (e *pageError) Error() string { return e.what + " is the answer, and not a node's" }

func newPageError(answer *http.Response) error {
	what := statusText(answer.StatusCode)
	if kind, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type")); err == nil {
		what += " with " + kind
	}
	if leads := redirection(answer); leads != "" {
		what += " to " + leads
	}
	return &pageError{"a page (" + what + ")"}
}

// redirection returns the site that an answer leads to. The rest of the URL may
// be for this user alone.
func redirection(answer *http.Response) string {
	if answer.StatusCode/100 != 3 {
		return ""
	}
	if u, err := answer.Location(); err == nil && u.Host != "" {
		return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
	}
	return ""
}

// dialThrough connects to a host and port, in a tunnel if there is a proxy.
func dialThrough(ctx context.Context, by *url.URL, target string) (net.Conn, error) {
	var direct net.Dialer
	if by == nil {
		return direct.DialContext(ctx, "tcp", target)
	}
	switch by.Scheme {
	case "http", "https":
		return connectThrough(ctx, by, target)
	case "socks5", "socks5h":
		d, err := proxy.FromURL(by, &direct)
		if err != nil {
			return nil, err
		}
		return d.(proxy.ContextDialer).DialContext(ctx, "tcp", target)
	}
	return nil, fmt.Errorf("no way to use it: %q is none of http, https and socks5", by.Scheme)
}

// connectThrough has an HTTP proxy make a tunnel (RFC 9110, section 9.3.6).
func connectThrough(ctx context.Context, by *url.URL, target string) (_ net.Conn, err error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", proxyHost(by))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Close()
			err = orCause(ctx, err)
		}
	}()
	if by.Scheme == "https" { // it may be given a password, so it is who it says
		c = tls.Client(c, &tls.Config{ServerName: by.Hostname(), NextProtos: []string{"http/1.1"}})
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	if err := askForTunnel(c, by.User, target); err != nil {
		stop()
		return nil, err
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return c, nil
}

func proxyHost(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// maxProxyAnswer bounds the header of a proxy's answer.
const maxProxyAnswer = 64 << 10

func askForTunnel(c net.Conn, user *url.Userinfo, target string) error {
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	ask.Header.Set("User-Agent", "") // it tells the proxy nothing that it needs
	if user != nil {
		password, _ := user.Password()
		word := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		ask.Header.Set("Proxy-Authorization", "Basic "+word)
	}
	if err := ask.Write(c); err != nil {
		return err
	}
	in := bufio.NewReader(io.LimitReader(c, maxProxyAnswer))
	answer, err := http.ReadResponse(in, ask)
	switch {
	case err != nil:
		return fmt.Errorf("read its answer: %w", err)
	case answer.StatusCode != http.StatusOK:
		return proxyStatus{answer.StatusCode, redirection(answer)}
	case in.Buffered() > 0: // in a tunnel nobody speaks before this end has
		return newPageError(answer)
	}
	return nil
}
