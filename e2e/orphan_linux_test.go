package e2e

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// startWithTest starts a process that the kernel ends should this one be killed, or
// give up for lack of time, before it could.
func startWithTest(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if elsewhere() {
		return cmd.Start()
	}
	done := make(chan error, 1)
	starter() <- func() { done <- cmd.Start() }
	return <-done
}

// home is the network that the tests began in.
var home, _ = os.Readlink("/proc/thread-self/ns/net")

// elsewhere tells whether the thread is in a network of its own, which a test that is on
// it for good has made.
func elsewhere() bool {
	here, err := os.Readlink("/proc/thread-self/ns/net")
	return err == nil && here != home
}

// starter returns what starts processes on a thread that lasts: the kernel ends them
// with the thread that has started them, and a lab's threads end with what they do.
var starter = sync.OnceValue(func() chan<- func() {
	starts := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range starts {
			start()
		}
	}()
	return starts
})
