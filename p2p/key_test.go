package p2p

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestKeyIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	made, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadKey(path)
	if err != nil || !loaded.Equal(made) {
		t.Errorf("LoadKey after CreateKey = another key, %v, want the same key", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("mode of a key file = %v, want %v", info.Mode(), os.FileMode(0o600))
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("ReadDir after CreateKey = %v, %v, want the key alone", left, err)
	}
	n := newTestNode(t, Config{Key: loaded})
	if want, err := PeerID(made.Public().(ed25519.PublicKey)); err != nil || n.ID() != want {
		t.Errorf("ID() of a node with the key = %v, want %v, %v", n.ID(), want, err)
	}
}

func TestPeerIDOfNoKey(t *testing.T) {
	if _, err := PeerID(make([]byte, 31)); err == nil || !strings.Contains(err.Error(), "31 byte") {
		t.Errorf("PeerID of 31 bytes = %v, want an error that says so", err)
	}
}

func TestCreateKeyLeavesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	for name, put := range map[string]func(path string) error{
		"file":      func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"symlink":   func(path string) error { return os.Symlink(filepath.Join(dir, "nowhere"), path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if err := put(path); err != nil {
				t.Skip(err) // symlinks on Windows
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = CreateKey(path)
			checkIs(t, "CreateKey", err, os.ErrExist)
			checkNames(t, "CreateKey", err, path)
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) || after.Size() != before.Size() {
				t.Errorf("after CreateKey the %s is %v, %v, want what was there", name, after, err)
			}
		})
	}
}

func TestCreateKeyWithoutADirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "key")
	_, err := CreateKey(path)
	checkIs(t, "CreateKey", err, os.ErrNotExist)
	checkNames(t, "CreateKey", err, path)
}

// checkNames tells whether an error says what it is about, in one line.
func checkNames(t *testing.T, call string, err error, path string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s = %v, want one line that names %s", call, err, path)
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	_, err := LoadKey(filepath.Join(t.TempDir(), "missing"))
	checkIs(t, "LoadKey of nothing", err, os.ErrNotExist)

	good := keyFile(t)
	for _, tt := range []struct {
		name string
		put  func(path string) error
		want error
		text string
	}{
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }, ErrKeyCorrupt, "not a file but d---------"},
		{"an empty file", func(path string) error { return os.WriteFile(path, nil, 0o600) }, ErrKeyCorrupt, "not one PEM block"},
		{"too long a file", func(path string) error { return os.WriteFile(path, make([]byte, maxKeyFile+1), 0o600) }, ErrKeyCorrupt, "4097 bytes long"},
		{"two keys", func(path string) error { return os.WriteFile(path, append(good, good...), 0o600) }, ErrKeyCorrupt, "not one PEM block"},
		{"a key without a name", func(path string) error { return os.WriteFile(path, withoutName(t, good), 0o600) }, ErrKeyCorrupt, `names peer "" but holds the key of 12D3KooW`},
		{"a key of another kind", func(path string) error { return os.WriteFile(path, otherKind(t), 0o600) }, ErrKeyCorrupt, "not an Ed25519 key"},
		{"a certificate", func(path string) error {
			return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE"}), 0o600)
		}, ErrKeyCorrupt, "not one PEM block of a private key"},
		{"a key that others may read", func(path string) error {
			return errors.Join(os.WriteFile(path, good, 0o600), os.Chmod(path, 0o640))
		}, ErrKeyExposed, "mode 0640"},
		{"a key that others may write", func(path string) error {
			return errors.Join(os.WriteFile(path, good, 0o600), os.Chmod(path, 0o602))
		}, ErrKeyExposed, "mode 0602"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == ErrKeyExposed && runtime.GOOS == "windows" {
				t.Skip("Windows has no such modes")
			}
			path := filepath.Join(t.TempDir(), "key")
			if err := tt.put(path); err != nil {
				t.Fatal(err)
			}
			_, err := LoadKey(path)
			checkIs(t, "LoadKey", err, tt.want)
			checkNames(t, "LoadKey", err, path)
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("LoadKey = %v, want %q in it", err, tt.text)
			}
		})
	}
}

// A symlink is followed, and what counts is the mode of the file it leads to.
func TestLoadKeyThroughASymlink(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "key"), filepath.Join(dir, "link")
	made, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err) // on Windows
	}
	if got, err := LoadKey(link); err != nil || !got.Equal(made) {
		t.Errorf("LoadKey through a symlink = another key, %v, want the key", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = LoadKey(link)
	checkIs(t, "LoadKey through a symlink to an exposed file", err, ErrKeyExposed)
}

// A damaged file is refused or, where the damage is to what carries no meaning,
// holds the very same key. It is never another key.
func TestDamagedKey(t *testing.T) {
	good := keyFile(t)
	want, err := decodeKey(good)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, at int, data []byte) (same bool) {
		got, err := decodeKey(data)
		if err == nil && !got.Equal(want) {
			t.Errorf("%s at %d: decodeKey = another key, want an error", what, at)
		}
		return err == nil
	}
	for size := range good {
		if check("cut", size, good[:size]) && size < len(good)-1 {
			t.Errorf("cut at %d of %d: decodeKey = nil, want an error", size, len(good))
		}
	}
	harmless := 0
	for at := range good {
		for bit := range 8 {
			damaged := append([]byte(nil), good...)
			damaged[at] ^= 1 << bit
			if check("bit flipped", at, damaged) {
				harmless++
			}
		}
	}
	if harmless > 8 {
		t.Errorf("%d of %d flipped bits went unseen, want a handful", harmless, 8*len(good))
	}
}

// keyFile returns what CreateKey writes.
func keyFile(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := CreateKey(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func withoutName(t *testing.T, file []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(file)
	block.Headers = nil
	return pem.EncodeToMemory(block)
}

func otherKind(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func FuzzDecodeKey(f *testing.F) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	good, err := encodeKey(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeKey(data)
		if err != nil {
			return
		}
		file, err := encodeKey(got)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeKey(file); err != nil || !again.Equal(got) {
			t.Errorf("decodeKey of the encoded key = another key, %v", err)
		}
	})
}
