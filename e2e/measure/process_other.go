//go:build !linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"time"
)

// ownProcess does what only Linux can.
func ownProcess(*exec.Cmd) {}

func pause(*os.Process, bool) error {
	return errors.New("processes are stopped on Linux only")
}

func withoutNetwork(*exec.Cmd) error {
	return errors.New("only Linux gives a process a network of its own")
}

// A socketWatch is for Linux.
type socketWatch struct{ dir string }

func watchSockets(string) (*socketWatch, error) {
	return nil, errors.New("directories are watched on Linux only")
}

func (*socketWatch) take() []time.Time { return nil }
func (*socketWatch) close()            {}
