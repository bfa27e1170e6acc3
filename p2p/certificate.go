package p2p

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// webSocketTLS is what a node shows to those who connect by WebSocket over TLS. If
// it is given no certificate it makes one that says nothing.
func webSocketTLS(cert *tls.Certificate) (*tls.Config, error) {
	if cert == nil {
		made, err := plainCertificate(time.Now())
		if err != nil {
			return nil, fmt.Errorf("make a TLS certificate: %w", err)
		}
		cert = made
	}
	return &tls.Config{Certificates: []tls.Certificate{*cert}}, nil
}

// plainCertificateLife is longer than a node runs.
const plainCertificateLife = 10 * 365 * 24 * time.Hour

// plainCertificate makes a certificate with a key of its own, that names nobody.
func plainCertificate(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    now.Add(-24 * time.Hour), // clocks differ
		NotAfter:     now.Add(plainCertificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
