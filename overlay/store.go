package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrStateCorrupt says that a state file is there but can't be read.
var ErrStateCorrupt = errors.New("state file is corrupt")

// An InUseError says that another process runs a node on a directory.
type InUseError struct {
	Dir  string
	Name string // of the node, if known
	PID  int    // of its process, if known
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("directory %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("directory %s is in use by %s (process %d)", e.Dir, e.Name, e.PID)
}

// What is in a node's directory.
const (
	nodeKeyFile = "node.key"
	rootKeyFile = "root.key" // only where the mesh was founded
	stateFile   = "state.db"
	ownerFile   = "owner.json"
)

// A store keeps what a node knows between two runs, in buckets of keys and
// values. Writes are durable, and whole or not at all.
type store interface {
	get(bucket, key string) ([]byte, error)
	all(bucket string) (map[string][]byte, error)
	put(bucket string, values map[string][]byte) error // an empty value deletes
	Close() error
}

// The buckets, and the keys of selfBucket.
const (
	selfBucket    = "self"
	membersBucket = "members"

	keyMesh       = "mesh"
	keyCredential = "credential"
	keyPort       = "port"
)

// memoryStore is the store of an ephemeral node.
type memoryStore struct {
	mu      sync.Mutex
	buckets map[string]map[string][]byte
}

func newMemoryStore() *memoryStore {
	return &memoryStore{buckets: map[string]map[string][]byte{}}
}

func (m *memoryStore) get(bucket, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.buckets[bucket][key], nil
}

func (m *memoryStore) all(bucket string) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][]byte{}
	for k, v := range m.buckets[bucket] {
		out[k] = v
	}
	return out, nil
}

func (m *memoryStore) put(bucket string, values map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.buckets[bucket]
	if b == nil {
		b = map[string][]byte{}
		m.buckets[bucket] = b
	}
	for k, v := range values {
		if len(v) == 0 {
			delete(b, k)
			continue
		}
		b[k] = v
	}
	return nil
}

func (m *memoryStore) Close() error { return nil }

// fileStore is a bbolt file. bbolt's lock on it is the lock on the directory.
type fileStore struct {
	dir string
	db  *bbolt.DB
}

// openStore opens or makes the state of a directory and locks it.
func openStore(dir string) (*fileStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	path := filepath.Join(dir, stateFile)
	db, err := openBolt(path)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, inUse(dir)
	case errors.Is(err, ErrStateCorrupt):
		return nil, fmt.Errorf("open %s: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("open state: %w", err)
	}
	return &fileStore{dir: dir, db: db}, nil
}

// openBolt opens a file for writing once it has been checked: bbolt may panic
// on a damaged one, and then it keeps the lock.
func openBolt(path string) (*bbolt.DB, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
}

// lockTimeout is how long a file may be locked before it is in use. For a
// moment it is while another start looks at it, and after this process closed
// it while it was starting another process.
const lockTimeout = 200 * time.Millisecond

type owner struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
}

// inUse tells who has a directory, as far as the owner wrote it down.
func inUse(dir string) error {
	out := &InUseError{Dir: dir}
	data, err := os.ReadFile(filepath.Join(dir, ownerFile))
	if err != nil {
		return out
	}
	var o owner
	if json.Unmarshal(data, &o) == nil {
		out.Name, out.PID = o.Name, o.PID
	}
	return out
}

// own writes down who has the directory.
func (f *fileStore) own(name string) error {
	data, err := json.Marshal(owner{name, os.Getpid()})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(f.dir, ownerFile), data, 0o600)
}

func (f *fileStore) get(bucket, key string) (out []byte, err error) {
	err = f.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket([]byte(bucket)); b != nil {
			out = append(out, b.Get([]byte(key))...)
		}
		return nil
	})
	return out, err
}

func (f *fileStore) all(bucket string) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := f.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			out[string(k)] = append([]byte(nil), v...)
			return nil
		})
	})
	return out, err
}

func (f *fileStore) put(bucket string, values map[string][]byte) error {
	err := f.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		for k, v := range values {
			if len(v) == 0 {
				err = b.Delete([]byte(k))
			} else {
				err = b.Put([]byte(k), v)
			}
			if err != nil {
				return err
			}
		}
		return renewSeal(tx)
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", f.db.Path(), err)
	}
	return nil
}

func (f *fileStore) Close() error {
	_ = os.Remove(filepath.Join(f.dir, ownerFile)) // it only says whom to blame
	return f.db.Close()
}
