package unixsock

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// inotify is a watcher that the kernel tells of changes.
type inotify struct {
	file *os.File
	buf  []byte
}

func (w *inotify) next(deadline time.Time) ([]change, error) {
	if err := w.file.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	n, err := w.file.Read(w.buf)
	if err != nil {
		return nil, err
	}
	return parseInotify(w.buf[:n])
}

func (w *inotify) close() { w.file.Close() }

// parseInotify reads events as inotify(7) lays them out: four words, which are
// the watch, what happened, what it goes with and how long the name is, and
// the name, filled up with zeros.
func parseInotify(b []byte) ([]change, error) {
	var changes []change
	for len(b) > 0 {
		if len(b) < unix.SizeofInotifyEvent {
			return nil, io.ErrUnexpectedEOF
		}
		mask, size := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
		b = b[unix.SizeofInotifyEvent:]
		if uint64(size) > uint64(len(b)) {
			return nil, io.ErrUnexpectedEOF
		}
		name, _, _ := bytes.Cut(b[:size], []byte{0})
		b = b[size:]

		c := change{name: string(name)}
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			c.what = everyFile
		case mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_UNMOUNT|unix.IN_IGNORED) != 0:
			c.what = directoryLost
		case c.name == "":
			c.what = theDirectory
		case isTemporaryName(c.name):
			continue
		default:
			c.what = aFile
		}
		changes = append(changes, c)
	}
	return changes, nil
}
