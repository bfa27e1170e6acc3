//go:build !linux

package e2e

import "os/exec"

// memberArgument makes this binary a node, where that is of use.
const memberArgument = "e2e-member"

func runMember() int { return 1 }

// startWithTest starts a process. On Linux it ends with this one.
func startWithTest(cmd *exec.Cmd) error { return cmd.Start() }
