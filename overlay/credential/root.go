package credential

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// FounderLifetime is how long a founder's credential lasts, and with it all that
// it issues. The root can give another at any time.
const FounderLifetime = 10 * 365 * 24 * time.Hour

// A Root is the key that a mesh is. It is needed once, to make the founder an
// admin, and again only to replace that admin, so it is best kept off the
// machine. Whoever has it owns the mesh, and nothing can be done about that.
//
// However a Root is printed or logged, it shows its mesh and not the key.
type Root struct {
	key privateKey
}

// NewRoot draws the root key of a new mesh: 32 bytes of rand, which is
// crypto/rand.Reader outside tests.
func NewRoot(rand io.Reader) (*Root, error) {
	var seed [ed25519.SeedSize]byte
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return nil, fmt.Errorf("draw a root key: %w", err)
	}
	return &Root{newPrivateKey(seed)}, nil
}

// RootFromKey takes up a root key where [Root.Key] left it.
func RootFromKey(key ed25519.PrivateKey) (*Root, error) {
	private, err := privateKeyOf(key)
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	return &Root{private}, nil
}

// Key returns the key to keep: the secret, in clear.
func (r Root) Key() ed25519.PrivateKey { return r.key.expand() }

// Mesh returns the ID of the root's mesh.
func (r Root) Mesh() MeshID { return r.key.public() }

// Found gives a node, by its public key, the credential of a founder: all roles,
// for [FounderLifetime]. A mesh can have more than one founder.
func (r Root) Found(rand io.Reader, now time.Time, node ed25519.PublicKey, name string) (*Credential, error) {
	return r.Issuer().IssueNode(rand, now, node, Terms{Name: name, Roles: allRoles})
}

// Issuer returns the root in its part as one who gives and revokes.
func (r Root) Issuer() *Issuer { return &Issuer{mesh: r.Mesh(), key: r.key} }

// String names the mesh. It does not show the key.
func (r Root) String() string { return "root of mesh " + r.Mesh().short() }

// Format prints String whatever the verb, so that the key is not printed by %#v
// or %x either.
func (r Root) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue logs String.
func (r Root) LogValue() slog.Value { return slog.StringValue(r.String()) }
