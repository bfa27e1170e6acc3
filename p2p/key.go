package p2p

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

var (
	// ErrKeyCorrupt says that a key file is there but does not hold a key.
	ErrKeyCorrupt = errors.New("key file is corrupt")

	// ErrKeyExposed says that others than its owner may read a key file.
	ErrKeyExposed = errors.New("key file can be read by other users")
)

// maxKeyFile is many times what a key file takes: about 200 bytes.
const maxKeyFile = 4 << 10

// peerHeader names the identity inside the key file, so that a damaged key is
// seen as damaged and not as somebody else.
const peerHeader = "Peer"

// PeerID returns the name of the node that holds key's private half.
func PeerID(key ed25519.PublicKey) (peer.ID, error) {
	pub, err := crypto.UnmarshalEd25519PublicKey(key)
	if err != nil {
		return "", fmt.Errorf("peer ID of a %d byte key: %w", len(key), err)
	}
	return peer.IDFromPublicKey(pub)
}

// CreateKey makes an identity and keeps it at path, readable by its owner
// only, as PKCS #8 in PEM (RFC 5958, RFC 7468) with the peer ID as a header.
// A file already there is an error that is [os.ErrExist], and is left alone.
func CreateKey(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key %s: %w", path, err)
	}
	block, err := encodeKey(key)
	if err != nil {
		return nil, fmt.Errorf("make key %s: %w", path, err)
	}
	if err := writeNew(path, block); err != nil {
		return nil, fmt.Errorf("make key %s: %w", path, err)
	}
	return key, nil
}

// LoadKey reads a key that [CreateKey] kept. The error is [os.ErrNotExist],
// [ErrKeyExposed] or [ErrKeyCorrupt] where one of these is the cause.
func LoadKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("load key %s: not a file but %v: %w", path, info.Mode().Type(), ErrKeyCorrupt)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("load key %s: mode %04o: %w", path, info.Mode().Perm(), ErrKeyExposed)
	}
	if info.Size() > maxKeyFile {
		return nil, fmt.Errorf("load key %s: %d bytes long: %w", path, info.Size(), ErrKeyCorrupt)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	key, err := decodeKey(data)
	if err != nil {
		return nil, fmt.Errorf("load key %s: %w: %w", path, ErrKeyCorrupt, err)
	}
	return key, nil
}

func encodeKey(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	id, err := PeerID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{
		Type:    "PRIVATE KEY",
		Headers: map[string]string{peerHeader: id.String()},
		Bytes:   der,
	}), nil
}

func decodeKey(data []byte) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, errors.New("it is not one PEM block of a private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it holds a %T, not an Ed25519 key", parsed)
	}
	id, err := PeerID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	if named := block.Headers[peerHeader]; named != id.String() {
		return nil, fmt.Errorf("it names peer %q but holds the key of %v", named, id)
	}
	return key, nil
}

// writeNew puts data at path whole or not at all, also through a power cut,
// and never over another file.
func writeNew(path string, data []byte) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		var link *os.LinkError
		if errors.As(err, &link) {
			return link.Err // not of a file that is about to go
		}
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // has no handle on a directory to sync
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
