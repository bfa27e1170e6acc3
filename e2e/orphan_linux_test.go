package e2e

import (
	"os/exec"
	"syscall"
)

// endWithTest has the kernel end a process should this one be killed, or give up
// for lack of time, before it could.
func endWithTest(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
