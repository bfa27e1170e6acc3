package overlay

import (
	"errors"
	"fmt"
)

// keptBucket holds what the program that runs a node keeps with it.
const keptBucket = "kept"

// The bounds of what a program may keep: the state file is read whole at each
// start.
const (
	// MaxKept is how many keys there may be.
	MaxKept = 4096

	// MaxKeptKey is how long a key may be, in bytes.
	MaxKeptKey = 1024

	// MaxKeptValue is how long a value may be, in bytes.
	MaxKeptValue = 512 << 10
)

// ErrKeptTooMuch says that what is to be kept is beyond a bound.
var ErrKeptTooMuch = errors.New("more than a node keeps")

// Keep stores values of the program that runs this node in its state file, under
// keys of the program's choice, in the place of those stored there before. An empty
// value deletes. When Keep returns, all of them are on the disk, or after an error
// none. A node without a directory keeps them until it is closed; [Mesh.Leave]
// deletes them.
//
// The error is [ErrKeptTooMuch] if there are more than [MaxKept] keys, or one or its
// value is too long.
func (m *Mesh) Keep(values map[string][]byte) error {
	if err := m.keepValues(values); err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	return nil
}

func (m *Mesh) keepValues(values map[string][]byte) error {
	for k, v := range values {
		if k == "" {
			return errors.New("empty key")
		}
		if len(k) > MaxKeptKey || len(v) > MaxKeptValue {
			return fmt.Errorf("%w: key %.80q of %d bytes, value of %d", ErrKeptTooMuch, k, len(k), len(v))
		}
	}
	m.keeping.Lock()
	defer m.keeping.Unlock()
	if err := m.alive(); err != nil {
		return err
	}
	there, err := m.store.all(keptBucket)
	if err != nil {
		return err
	}
	for k, v := range values {
		there[k] = v
		if len(v) == 0 {
			delete(there, k)
		}
	}
	if len(there) > MaxKept {
		return fmt.Errorf("%w: %d keys", ErrKeptTooMuch, len(there))
	}
	return m.store.put(keptBucket, values)
}

// Kept returns what Keep has stored, in this run of the node and those before.
func (m *Mesh) Kept() (map[string][]byte, error) {
	m.keeping.Lock()
	defer m.keeping.Unlock()
	if err := m.alive(); err != nil {
		return nil, fmt.Errorf("kept: %w", err)
	}
	values, err := m.store.all(keptBucket)
	if err != nil {
		return nil, fmt.Errorf("kept: %w", err)
	}
	return values, nil
}

// forgetKept deletes what was kept.
func forgetKept(s store) error {
	values, err := s.all(keptBucket)
	if err != nil || len(values) == 0 {
		return err
	}
	for k := range values {
		values[k] = nil
	}
	return s.put(keptBucket, values)
}
