package unixsock

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Frames that wait while nobody reads are read in parts of any size, and each gets
// the socket that it came with.
func TestSocketsStayWithTheirFrames(t *testing.T) {
	for ends := 126; ends <= 130; ends++ { // so that one with a socket is cut at each place
		for name := range 16 {
			checkReceived(t, ends, string(make([]byte, name)))
		}
	}
}

// checkReceived sends frames without a socket, then four with one, and checks what
// is received.
func checkReceived(t *testing.T, ends int, name string) {
	t.Helper()
	fds, err := newPair()
	if err != nil {
		t.Fatal(err)
	}
	to, from := rawUnix(t, fds[0]), rawUnix(t, fds[1])
	raw, err := to.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s := newSender(raw)
	for range ends {
		if err := s.send(frame{kind: frameEnd, stream: 1}.append(nil), -1, false); err != nil {
			t.Fatal(err)
		}
	}
	var want []uint64 // inodes
	for i := range 4 {
		ours, theirs, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		defer closeFD(ours)
		want = append(want, inodeOf(t, theirs))
		err = s.send(frame{kind: frameOpen, socket: true, stream: uint64(i), payload: []byte(name)}.append(nil), theirs, false)
		closeFD(theirs)
		if err != nil {
			t.Fatal(err)
		}
	}
	raw, err = from.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	r := newReceiver(raw)
	for got := 0; got < len(want); {
		if err := r.fill(); err != nil {
			t.Fatal(err)
		}
		rest := r.buf[:r.have]
		for {
			f, more, ok, err := cutFrame(rest)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				r.have = copy(r.buf[:], rest)
				break
			}
			rest = more
			if !f.socket {
				continue
			}
			fd, ok := r.socket()
			if !ok {
				t.Fatalf("%d frames, names of %d bytes: the socket of stream %d is missing", ends, len(name), f.stream)
			}
			if f.stream != uint64(got) || inodeOf(t, fd) != want[got] {
				t.Fatalf("%d frames, names of %d bytes: stream %d has the socket of another", ends, len(name), f.stream)
			}
			closeFD(fd)
			got++
		}
	}
}

func rawUnix(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}

func inodeOf(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
