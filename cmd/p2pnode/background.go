package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
)

// detachedFlag tells a process that it is the one in the background.
const detachedFlag = "detached"

// startBackground runs this command line again in a process that outlives this one,
// and returns when the node is ready. What the process says until then is said here;
// after that it has a log. If it ends before, so does this, with the same status.
func (e *env) startBackground(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	cmd := exec.Command(self, append([]string{"--" + detachedFlag + "=true"}, e.args...)...)
	cmd.Args[0] = os.Args[0]
	cmd.SysProcAttr = ownSession()
	if f, ok := e.stdin.(*os.File); ok {
		cmd.Stdin = f // an invite may come from there
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	defer context.AfterFunc(ctx, func() { interrupt(cmd.Process) })()
	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = io.Copy(e.stderr, stderr) // nobody is there to hear more than that it failed
	}()
	ready, err := io.Copy(e.stdout, stdout) // until the process has ended or let go of it
	<-said
	if err == nil && ready > 0 {
		return cmd.Process.Release()
	}
	ended := cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if exit := (*exec.ExitError)(nil); errors.As(ended, &exit) && exit.ExitCode() > 0 {
		return &statusError{status: exit.ExitCode()} // it has said why
	}
	return fmt.Errorf("the node has ended before it was ready: %w", errors.Join(err, ended))
}

// A backgroundLog is what a process in the background has in place of a terminal.
type backgroundLog struct {
	*logFile
	terminal io.Writer
	detached atomic.Bool
}

// Write writes to the terminal as long as there is one, and to the log after that.
func (b *backgroundLog) Write(p []byte) (int, error) {
	if b.detached.Load() {
		return b.logFile.Write(p)
	}
	return b.terminal.Write(p)
}

// openBackground has a process in the background log to a file in its directory, and
// say on standard error what ends it, there too once it is detached.
func (e *env) openBackground(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log, err := openLog(filepath.Join(dir, logName), maxLog)
	if err != nil {
		return err
	}
	e.log = log
	e.background = &backgroundLog{logFile: log, terminal: e.stderr}
	e.stderr = e.background
	return nil
}

// detach lets go of the terminal, which tells who started this process that the node
// is ready.
func (e *env) detach() error {
	if e.background == nil {
		return nil
	}
	e.background.detached.Store(true)
	e.stdout = io.Discard
	return letGo(e.background.file)
}
