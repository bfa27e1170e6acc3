package kernel

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// spareFiles is how many descriptors FilesShort leaves, or a quarter of them where a
// process may have few.
const spareFiles = 128

// FilesShort tells whether a process that is about to make some more descriptors has
// nearly as many then as it may (RLIMIT_NOFILE). It goes by the number of one that was
// just made, as the kernel gives the lowest that is free; where that is nil it makes one.
func FilesShort(newest syscall.RawConn, more int) bool {
	fd := -1
	if newest != nil {
		_ = newest.Control(func(f uintptr) { fd = int(f) })
	} else {
		f, err := retry(func() (int, error) { return unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) })
		if err != nil {
			return err == unix.EMFILE
		}
		_ = unix.Close(f)
		fd = f
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || fd < 0 {
		return false
	}
	return uint64(fd+more)+min(spareFiles, limit.Cur/4) >= limit.Cur
}
