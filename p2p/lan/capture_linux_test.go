package lan

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// capture records all packets of the host until what it returns is called, which
// returns them one behind the other.
func (h *host) capture(t *testing.T) func() []byte {
	t.Helper()
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], unix.ETH_P_ALL)
	var fd int
	var err error
	h.in(func() {
		const kind = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
		fd, err = unix.Socket(unix.AF_PACKET, kind, int(binary.NativeEndian.Uint16(b[:])))
	})
	if err != nil {
		t.Skipf("packets are captured by root: %v", err)
	}
	return func() []byte {
		defer unix.Close(fd)
		var all []byte
		buf := make([]byte, 64<<10)
		for { // what was sent is in the socket's buffer
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return all
			}
			all = append(all, buf[:n]...)
		}
	}
}

// await waits until something is so. It looks now and then.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("within %v it is not so that %s", patience, what)
		}
	}
}
