package control

import "syscall"

// makePrivate leaves it to the directory who may open what is in it.
func makePrivate(_, _ string, _ syscall.RawConn) error { return nil }
