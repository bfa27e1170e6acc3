package overlay

import (
	"errors"
	"testing"
	"time"

	"github.com/p2pnode/p2pnode/overlay/credential"
)

func TestMemberValidator(t *testing.T) {
	now := time.Now()
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	bob := alice.admit(t, seeded(3), now, credential.Terms{Name: "bob"})
	stranger := newFounder(t, rootOf(t, 4), seeded(2), "alice", now)
	v := memberValidator{alice.mesh, must(loadRevoked(newMemoryStore(), alice.mesh))}
	aliceKey := memberKey(peerOf(t, 2))
	for _, tt := range []struct {
		name, key string
		value     []byte
		want      error // nil: valid
	}{
		{"one's own", aliceKey, alice.says(t, 1, false), nil},
		{"one's own, leaving", aliceKey, alice.says(t, 1, true), nil},
		{"another member's", aliceKey, bob.says(t, 1, false), errPresence},
		{"another mesh's", aliceKey, stranger.says(t, 1, false), credential.ErrWrongMesh},
		{"nothing", aliceKey, nil, errPresence},
		{"something else", aliceKey, []byte("hello"), errPresence},
		{"under no key", "", alice.says(t, 1, false), errPresence},
		{"under a key with more behind it", aliceKey + "/x", alice.says(t, 1, false), errPresence},
		{"under another namespace", "/x/" + peerOf(t, 2).String(), alice.says(t, 1, false), errPresence},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := v.Validate(tt.key, tt.value)
			if !errors.Is(err, tt.want) {
				t.Errorf("Validate = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestMemberValidatorSelects(t *testing.T) {
	alice := newFounder(t, rootOf(t, 1), seeded(2), "alice", time.Now())
	old, middle, newest := alice.says(t, 1, false), alice.says(t, 2, false), alice.says(t, 3, true)
	bad := []byte("hello")
	for _, tt := range []struct {
		name   string
		values [][]byte
		want   int // -1: an error
	}{
		{"the newest", [][]byte{middle, newest, old}, 1},
		{"the only one", [][]byte{old}, 0},
		{"the first of equals", [][]byte{middle, middle}, 0},
		{"past what is none", [][]byte{bad, old}, 1},
		{"nothing", nil, -1},
		{"nothing that is one", [][]byte{bad}, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := memberValidator{alice.mesh, must(loadRevoked(newMemoryStore(), alice.mesh))}.Select("", tt.values)
			if failed := err != nil; failed != (tt.want < 0) || !failed && got != tt.want {
				t.Errorf("Select = %d, %v, want %d", got, err, tt.want)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
