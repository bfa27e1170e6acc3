//go:build unix

package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// passed are the signals that are passed on to a program that is run. Those of
// byTerminal the kernel sends to all programs in front of a terminal.
var (
	passed     = []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2}
	byTerminal = []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP}
)

// signals are caught for a program, and do not end p2pnode.
type signals chan os.Signal

func catchSignals() signals {
	s := make(signals, 16)
	signal.Notify(s, passed...)
	return s
}

// passTo passes signals on until stop.
func (s signals) passTo(program *os.Process) {
	go func() {
		for sig := range s {
			if !slices.Contains(byTerminal, sig) || !inFront() {
				_ = program.Signal(sig) // it may have ended
			}
		}
	}()
}

func (s signals) stop() {
	signal.Stop(s)
	close(s)
}

// inFront tells whether this process, and so what it runs, gets signals by the keys
// of its terminal.
func inFront() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// exitStatus returns what a shell would.
func exitStatus(p *os.ProcessState) int {
	if w, ok := p.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return p.ExitCode()
}
