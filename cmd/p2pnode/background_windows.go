package main

import (
	"errors"
	"os"
	"syscall"
)

// ownSession keeps what happens to a console from a process.
func ownSession() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

func interrupt(p *os.Process) { _ = p.Kill() } // it may have ended; there is no other signal

// letGo closes the standard files.
func letGo(*os.File) error {
	return errors.Join(os.Stdin.Close(), os.Stdout.Close(), os.Stderr.Close())
}
