package unixsock

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// inotifyEvent lays out an event as the kernel does.
func inotifyEvent(mask uint32, name string) []byte {
	size := 0
	if name != "" {
		size = (len(name)/16 + 1) * 16
	}
	var b []byte
	for _, n := range []uint32{1, mask, 0, uint32(size)} {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	return append(append(b, name...), make([]byte, size-len(name))...)
}

func TestParseInotify(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   [][]byte
		want []change
	}{
		{"nothing", nil, nil},
		{"a file came", [][]byte{inotifyEvent(unix.IN_MOVED_TO, "f")}, []change{{aFile, "f"}}},
		{"files went", [][]byte{inotifyEvent(unix.IN_DELETE, "f"), inotifyEvent(unix.IN_MOVED_FROM, "a longer name than that")},
			[]change{{aFile, "f"}, {aFile, "a longer name than that"}}},
		{"a temporary", [][]byte{inotifyEvent(unix.IN_MOVED_FROM, temporaryName())}, nil},
		{"the directory's mode", [][]byte{inotifyEvent(unix.IN_ATTRIB|unix.IN_ISDIR, "")}, []change{{what: theDirectory}}},
		{"the directory was moved", [][]byte{inotifyEvent(unix.IN_MOVE_SELF, "")}, []change{{what: directoryLost}}},
		{"the directory was unmounted", [][]byte{inotifyEvent(unix.IN_UNMOUNT, "")}, []change{{what: directoryLost}}},
		{"too many", [][]byte{inotifyEvent(unix.IN_Q_OVERFLOW, "")}, []change{{what: everyFile}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseInotify(slices.Concat(tt.in...))
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("parseInotify = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
	whole := inotifyEvent(unix.IN_DELETE, "f")
	for n := 1; n < len(whole); n++ {
		if got, err := parseInotify(whole[:n]); err == nil {
			t.Errorf("parseInotify of %d bytes = %v, want an error", n, got)
		}
	}
}

func FuzzParseInotify(f *testing.F) {
	f.Add(inotifyEvent(unix.IN_MOVED_TO, "f"))
	f.Add(append(inotifyEvent(unix.IN_ATTRIB, ""), inotifyEvent(unix.IN_DELETE, "name")...))
	f.Fuzz(func(t *testing.T, b []byte) {
		changes, _ := parseInotify(b)
		if len(changes) > len(b)/unix.SizeofInotifyEvent {
			t.Errorf("parseInotify of %d bytes = %d changes", len(b), len(changes))
		}
	})
}
