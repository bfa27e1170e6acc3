package main

import (
	"os"
	"os/signal"
)

// signals are caught for a program, and do not end p2pnode. The system sends them to
// all programs of a console.
type signals chan os.Signal

func catchSignals() signals {
	s := make(signals, 1)
	signal.Notify(s, os.Interrupt)
	return s
}

func (s signals) passTo(*os.Process) {}

func (s signals) stop() { signal.Stop(s) }

func exitStatus(p *os.ProcessState) int { return p.ExitCode() }
