package forward

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/things-go/go-socks5/statute"
)

// The first byte of what a client of SOCKS sends. No request of HTTP begins so.
const (
	socks4 = 4
	socks5 = statute.VersionSocks5
)

// serveSOCKS serves a client that has said by its first byte, which was read, that
// it speaks SOCKS 5 (RFC 1928). It returns why the connection broke.
func (p *Proxy) serveSOCKS(client net.Conn) error {
	_ = client.SetDeadline(time.Now().Add(p.cfg.HeaderTimeout))
	asked, err := askedBySOCKS(client)
	if err != nil {
		linger(client)
		return fmt.Errorf("SOCKS 5: %w", err)
	}
	dialled, err := p.dial(asked)
	_ = client.SetDeadline(time.Time{})
	if p.acceptor.ctx.Err() != nil {
		reset(client) // before its end can be taken for an answer
	}
	if err != nil {
		_, _ = client.Write(socksReply(refusalOf(err).reply))
		linger(client)
		return nil
	}
	if _, err := client.Write(socksReply(statute.RepSuccess)); err != nil {
		reset(client)
		reset(dialled)
		return reason(err)
	}
	return join(p.acceptor.ctx, client, dialled, &p.acceptor.meter)
}

// askedBySOCKS reads which host and port a client asks for. A client that asks for
// something else is told so.
func askedBySOCKS(client net.Conn) (string, error) {
	greeting, err := statute.ParseMethodRequest(io.MultiReader(bytes.NewReader([]byte{socks5}), client))
	if err != nil {
		return "", fmt.Errorf("greeting: %w", reason(err))
	}
	if !slices.Contains(greeting.Methods, statute.MethodNoAuth) {
		_, _ = client.Write([]byte{socks5, statute.MethodNoAcceptable})
		return "", errors.New("the client does not go without authentication")
	}
	if _, err := client.Write([]byte{socks5, statute.MethodNoAuth}); err != nil {
		return "", reason(err)
	}
	r, err := statute.ParseRequest(client)
	switch {
	case errors.Is(err, statute.ErrUnrecognizedAddrType):
		_, _ = client.Write(socksReply(statute.RepAddrTypeNotSupported))
		return "", err
	case err != nil:
		return "", err
	case r.Command != statute.CommandConnect:
		_, _ = client.Write(socksReply(statute.RepCommandNotSupported))
		return "", fmt.Errorf("command %d is not CONNECT", r.Command)
	}
	return r.DstAddr.String(), nil
}

// socksReply makes a reply that names no address: the one at which a service was
// dialled is of no use to a client.
func socksReply(code byte) []byte {
	none := statute.AddrSpec{IP: net.IPv4zero, AddrType: statute.ATYPIPv4}
	return statute.Reply{Version: socks5, Response: code, BndAddr: none}.Bytes()
}

// refuseSOCKS4 tells a client of SOCKS 4, which knows no host names, that it is
// refused.
func (p *Proxy) refuseSOCKS4(client net.Conn) error {
	const refused = 0x5b
	_, _ = client.Write([]byte{0, refused, 0, 0, 0, 0, 0, 0})
	linger(client)
	return errors.New("the client speaks SOCKS 4, and not 5")
}
