package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
)

const (
	exitDone  = 0
	exitFault = 1
	exitUsage = 2
)

func main() {
	if isRole(os.Args) {
		os.Exit(runRole(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
	}
	// A closed pipe at stdout must be an error of the write, not the end of the
	// process before it has cleaned up. (To ignore the signal would hand that on
	// to children.)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run does what args ask for and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p, jsonFile, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return exitDone
	case err != nil:
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return exitUsage
	}
	r, err := measureAll(ctx, p, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return exitFault
	}
	err = r.writeTable(stdout)
	if jsonFile != "" {
		err = errors.Join(err, r.writeJSON(jsonFile))
	}
	if err == nil && !r.measured() {
		err = errors.New("no way could be measured")
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return exitFault
	}
	return exitDone
}
