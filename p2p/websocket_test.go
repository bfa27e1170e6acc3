package p2p

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// dialHTTP connects to a node that listens for WebSocket, with TLS or without.
func dialHTTP(t *testing.T, n *Node, listen string, protos ...string) net.Conn {
	t.Helper()
	at := fmt.Sprintf("127.0.0.1:%d", n.Port())
	var c net.Conn
	var err error
	if strings.Contains(listen, "/tls/") {
		c, err = tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
	} else {
		c, err = net.Dial("tcp", at)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// Who talks HTTP to a node and is none gets one short answer, and costs little.
func TestWebSocketStrangers(t *testing.T) {
	for _, listen := range webSockets {
		n := newTestNode(t, Config{Listen: addrs(listen)})
		for _, tt := range []struct {
			name, say string
			status    int
		}{
			{"a page", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusNotFound},
			{"a body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n", http.StatusNotFound},
			{"a long header", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*maxWebSocketHeader) + "\r\n\r\n", http.StatusRequestHeaderFieldsTooLarge},
			{"another HTTP", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", http.StatusNotFound},
		} {
			t.Run(listen+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				c := dialHTTP(t, n, listen)
				if _, err := io.WriteString(c, tt.say); err != nil {
					t.Fatal(err)
				}
				in := bufio.NewReader(c)
				answer, err := http.ReadResponse(in, nil)
				if err != nil || answer.StatusCode != tt.status {
					t.Fatalf("the node answers %+v, %v, want %d", answer, err, tt.status)
				}
				_, err = io.Copy(io.Discard, in)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the node does not hang up: %v", err)
				}
			})
		}
	}
}

// The certificate says nothing of the node, and no HTTP/2 is offered.
func TestWebSocketCertificate(t *testing.T) {
	const listen = "/ip4/127.0.0.1/tcp/0/tls/ws"
	var serials []string
	for range 2 {
		n := newTestNode(t, Config{Listen: addrs(listen)})
		state := dialHTTP(t, n, listen, "h2", "http/1.1").(*tls.Conn).ConnectionState()
		if got := state.NegotiatedProtocol; got != "http/1.1" {
			t.Errorf("the node chooses %q, want http/1.1", got)
		}
		cert := state.PeerCertificates[0]
		serials = append(serials, cert.SerialNumber.String())
		if cert.Subject.String() != "" || len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses)+len(cert.URIs) > 0 {
			t.Errorf("the certificate names %v, %v, %v, want nobody", cert.Subject, cert.DNSNames, cert.IPAddresses)
		}
		if now := time.Now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			t.Errorf("the certificate is good from %v to %v", cert.NotBefore, cert.NotAfter)
		}
		if err := cert.VerifyHostname("127.0.0.1"); err == nil {
			t.Error("the certificate is good for an address")
		}
	}
	if serials[0] == serials[1] {
		t.Error("two nodes show one certificate")
	}
}

// A certificate that is given is shown.
func TestWebSocketCertificateGiven(t *testing.T) {
	const listen = "/ip4/127.0.0.1/tcp/0/tls/ws"
	cert, err := plainCertificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	n := newTestNode(t, Config{Listen: addrs(listen), Certificate: cert})
	state := dialHTTP(t, n, listen).(*tls.Conn).ConnectionState()
	want, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if !state.PeerCertificates[0].Equal(want) {
		t.Error("the node shows another certificate")
	}
}
