//go:build !unix

package main

import "os/exec"

func ownGroup(*exec.Cmd) {}

// interrupt kills, as there is no signal to ask with.
func interrupt(cmd *exec.Cmd) { cmd.Process.Kill() }

func kill(cmd *exec.Cmd) { cmd.Process.Kill() }
