package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// tlsWay is the way through two proxies with TLS 1.3 between them, a connection
// a stream.
type tlsWay struct{ overTCP }

func (tlsWay) name() string { return "tls" }

func (tlsWay) start(ctx context.Context, s *site, server string) (string, error) {
	pemFile := filepath.Join(s.dir, "exit.pem")
	if err := writeCertificate(pemFile); err != nil {
		return "", err
	}
	exit, err := s.role(ctx, s.far, "tls-exit", server, pemFile)
	if err != nil {
		return "", err
	}
	return s.role(ctx, s.near, "tls-entry", exit, pemFile)
}

// tlsExitRole is the proxy at the server's side. Its arguments are the server's
// address and the file of its certificate and key.
func tlsExitRole(s self, args []string) error {
	cert, err := tls.LoadX509KeyPair(args[1], args[1])
	if err != nil {
		return err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}
	return s.serveTCP(func(entry *net.TCPConn) {
		if server, err := dialTCP(args[0]); err == nil {
			tie(tls.Server(entry, config), server)
		}
	})
}

// tlsEntryRole is the proxy at the client's side. Its arguments are the other
// proxy's address and the file of that one's certificate.
func tlsEntryRole(s self, args []string) error {
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "localhost", RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(text)
	return s.serveTCP(func(client *net.TCPConn) {
		if exit, err := dialGCM(args[0], config); err == nil {
			tie(client, exit)
		}
	})
}

// dialGCM refuses a cipher other than AES-GCM, which Go takes where the machine
// has no instructions for AES, and which would be another row.
func dialGCM(addr string, config *tls.Config) (*tls.Conn, error) {
	conn, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return nil, err
	}
	if suite := conn.ConnectionState().CipherSuite; suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		conn.Close()
		return nil, fmt.Errorf("dial %s: cipher %s is not AES-GCM", addr, tls.CipherSuiteName(suite))
	}
	return conn, nil
}

// writeCertificate makes a key and a certificate for localhost, good for a day,
// and writes both to one file.
func writeCertificate(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "bench"},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(file, text, 0o600)
}
