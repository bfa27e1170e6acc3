package overlay

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/p2p"
)

var (
	// ErrOtherMesh says that a directory holds a membership of another mesh
	// than the invite is for.
	ErrOtherMesh = errors.New("the directory belongs to another mesh")

	// ErrKeyMissing says that a directory holds a membership and not the key it
	// was given to. A new key would be somebody else.
	ErrKeyMissing = errors.New("the directory's key is missing")

	// ErrNameFixed says that a node was to be run under another name than its
	// credential has.
	ErrNameFixed = errors.New("the node's name is fixed by its credential")
)

// memberLifetime is that of a credential from an admin. It is renewed in its
// second half, so a member may be away for as long as that.
const memberLifetime = 90 * 24 * time.Hour

// An identity is who this node is in which mesh.
type identity struct {
	mesh       credential.MeshID
	key        ed25519.PrivateKey
	root       *credential.Root // where this node founded the mesh
	credential *credential.Credential
	member     credential.Member // what the credential says
	unredeemed bool              // the credential is only good to be redeemed, and not kept
}

// openIdentity resumes the membership in a store, or founds a mesh.
func openIdentity(s store, c Config) (*identity, error) {
	id, err := resume(s, c)
	if id != nil || err != nil {
		return id, err
	}
	return found(s, c)
}

// joinIdentity resumes the membership in a store if it is of the invite's
// mesh, or makes one from the invite. What has expired is made anew.
func joinIdentity(s store, c Config, inv *credential.Invite) (*identity, error) {
	kept, err := s.get(selfBucket, keyMesh)
	if err != nil {
		return nil, err
	}
	mesh := inv.Mesh()
	if len(kept) > 0 && !bytes.Equal(kept, mesh[:]) {
		return nil, fmt.Errorf("join: %s: %w", c.Dir, ErrOtherMesh)
	}
	if len(kept) > 0 {
		id, err := resume(s, c)
		if !errors.Is(err, credential.ErrExpired) {
			return id, err
		}
	}
	return redeem(s, c, inv)
}

// resume returns the identity that a store holds, or nil if it holds none.
func resume(s store, c Config) (*identity, error) {
	mesh, err := s.get(selfBucket, keyMesh)
	if err != nil || len(mesh) == 0 {
		return nil, err
	}
	id := &identity{}
	if len(mesh) != len(id.mesh) {
		return nil, fmt.Errorf("%s: %w: the mesh's ID has %d bytes", c.Dir, ErrStateCorrupt, len(mesh))
	}
	copy(id.mesh[:], mesh)
	if err := id.loadKeys(c.Dir); err != nil {
		return nil, err
	}
	proof, err := s.get(selfBucket, keyCredential)
	if err != nil {
		return nil, err
	}
	if id.credential, err = credential.Parse(proof); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", c.Dir, ErrStateCorrupt, err)
	}
	if err := id.check(c.Dir); err != nil {
		return nil, err
	}
	if c.Name != "" && c.Name != id.member.Name {
		return nil, fmt.Errorf("%w: it is %s in %s, not %s", ErrNameFixed, id.member.Name, c.Dir, c.Name)
	}
	return id, nil
}

func (id *identity) loadKeys(dir string) (err error) {
	id.key, err = p2p.LoadKey(filepath.Join(dir, nodeKeyFile))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w: %s", dir, ErrKeyMissing, nodeKeyFile)
	}
	if err != nil {
		return err
	}
	root, err := p2p.LoadKey(filepath.Join(dir, rootKeyFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil // most nodes have none, and it may be kept elsewhere
	}
	if err != nil {
		return err
	}
	r, err := credential.RootFromKey(root)
	if err == nil && r.Mesh() == id.mesh { // not one that was being founded before a join
		id.root = r
	}
	return err
}

// check verifies the credential and that it is for the key.
func (id *identity) check(dir string) error {
	m, err := id.credential.Verify(id.mesh, time.Now())
	switch {
	case errors.Is(err, credential.ErrExpired), errors.Is(err, credential.ErrNotYetValid):
		return fmt.Errorf("membership in %s: %w", dir, err)
	case err != nil:
		return fmt.Errorf("%s: %w: %w", dir, ErrStateCorrupt, err)
	case !m.Key.Equal(id.key.Public()):
		return fmt.Errorf("%s: %w: its credential is for %v and its key is another's", dir, ErrStateCorrupt, m.ID)
	}
	id.member = *m
	return nil
}

// found makes a mesh, and this node its first member and admin.
func found(s store, c Config) (*identity, error) {
	key, err := makeKey(c.Dir, nodeKeyFile)
	if err != nil {
		return nil, err
	}
	rootKey, err := makeKey(c.Dir, rootKeyFile)
	if err != nil {
		return nil, err
	}
	root, err := credential.RootFromKey(rootKey)
	if err != nil {
		return nil, err
	}
	name, err := nameFor(c.Name, key)
	if err != nil {
		return nil, err
	}
	id := &identity{key: key, root: root, mesh: root.Mesh()}
	if id.credential, err = root.Found(rand.Reader, time.Now(), publicOf(key), name); err != nil {
		return nil, fmt.Errorf("found a mesh: %w", err)
	}
	return id, id.keep(s, c.Dir)
}

// redeem makes this node a member by an invite, which needs nobody's answer
// unless the invite's uses are counted.
func redeem(s store, c Config, inv *credential.Invite) (*identity, error) {
	if err := inv.Verify(time.Now()); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	key, err := makeKey(c.Dir, nodeKeyFile)
	if err != nil {
		return nil, err
	}
	name, err := nameFor(cmp.Or(c.Name, inv.Grant().Name, keptName(s)), key)
	if err != nil {
		return nil, err
	}
	id := &identity{key: key, mesh: inv.Mesh()}
	if id.credential, err = inv.IssueNode(rand.Reader, time.Now(), publicOf(key), name); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if inv.Grant().Uses == 0 {
		return id, id.keep(s, c.Dir)
	}
	m, err := id.credential.Redeem(id.mesh, time.Now())
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	id.member, id.unredeemed = *m, true
	return id, nil
}

// keptName returns the name from last time, or nothing.
func keptName(s store) string {
	proof, err := s.get(selfBucket, keyCredential)
	if err != nil {
		return ""
	}
	c, err := credential.Parse(proof)
	if err != nil {
		return ""
	}
	return c.Grants()[0].Name
}

// keep writes the credential down, in one step with the mesh it is for.
func (id *identity) keep(s store, dir string) error {
	if err := id.check(dir); err != nil {
		return err
	}
	return s.put(selfBucket, map[string][]byte{keyMesh: id.mesh[:], keyCredential: id.credential.Marshal()})
}

// makeKey returns the key in a file, which an attempt that was cut short may
// have left, or makes it. Without a directory it is kept nowhere.
func makeKey(dir, file string) (ed25519.PrivateKey, error) {
	if dir == "" {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	path := filepath.Join(dir, file)
	key, err := p2p.LoadKey(path)
	if errors.Is(err, os.ErrNotExist) {
		return p2p.CreateKey(path)
	}
	return key, err
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey {
	return key.Public().(ed25519.PublicKey)
}

// nameFor returns name, or one made for the node of a key if it is empty.
func nameFor(name string, key ed25519.PrivateKey) (string, error) {
	if name != "" {
		return name, nil
	}
	id, err := p2p.PeerID(publicOf(key))
	if err != nil {
		return "", err
	}
	return defaultName(id), nil
}

func loadPort(s store) (uint16, error) {
	b, err := s.get(selfBucket, keyPort)
	if err != nil || len(b) != 2 {
		return 0, err // none, or not ours: any port will do
	}
	return binary.BigEndian.Uint16(b), nil
}

func savePort(s store, port uint16) error {
	return s.put(selfBucket, map[string][]byte{keyPort: binary.BigEndian.AppendUint16(nil, port)})
}
