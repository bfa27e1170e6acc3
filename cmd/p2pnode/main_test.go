package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"p2pnode": main})
}

// The scripts in testdata use p2pnode as a user does. These commands are theirs
// besides those of testscript. Among ARGS, @FILE stands for what is in the file.
//
//	node NAME ARGS...    runs p2pnode ARGS in the background until it is ready;
//	                     its standard input is the file stdin-NAME, if there is one
//	begin NAME ARGS...   runs it in the background
//	[!] said NAME REGEXP waits until it has written a match to standard error;
//	                     with ! there must be none up to now
//	[!] printed NAME REGEXP
//	                     the same for standard output
//	end NAME             interrupts it; it must exit with 0
//	interrupt NAME       interrupts it; terminate sends the other signal
//	hangup NAME          sends the signal of a terminal that is gone
//	ended NAME [N]       waits until it has ended by itself with N, or 0
//	crash NAME           kills it
//	status N p2pnode ... runs it; it must exit with N, and where that is not 0
//	                     write something to standard error and nothing to standard output
//	server VAR [KIND [PORT]]
//	                     sets VAR to the address of a server of that kind, see servers
//	asked VAR            waits until a client has come to that server
//	[!] client ADDRESS   ends its side at once and prints what it is sent;
//	                     fails where the connection breaks
//	fetch ADDRESS URL    prints the status and the body of a URL through a proxy
//	freeport VAR         sets VAR to a port at which nobody listens
//	disk DIR SIZE        mounts a disk of that size; the condition [mount] tells if it can
//	expired FILE         writes an invite that has expired
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Condition:          mayMount,
		Setup: func(e *testscript.Env) error {
			// A socket's path must be short.
			dir, err := os.MkdirTemp("", "s")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			nodes := &nodes{running: map[string]*background{}}
			e.Defer(nodes.killAll)
			e.Defer(func() { killOwners(dir) })
			e.Values[nodesKey{}] = nodes
			e.Values[serversKey{}] = map[string]chan struct{}{}
			e.Setenv("D", dir)
			e.Setenv("XDG_RUNTIME_DIR", dir) // so that no script's nodes meet another's
			e.Setenv(noLANVariable, "1")
			e.Setenv("HOME", dir)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
			e.Setenv("GORACE", "atexit_sleep_ms=10") // not a second for each command
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"node": startNode, "begin": beginNode, "said": waitSaid, "printed": waitPrinted,
			"end": endNode, "interrupt": interruptNode, "terminate": terminateNode, "hangup": hangUpNode, "ended": endedNode, "crash": killNode,
			"status": wantStatus, "server": startServer, "asked": waitAsked, "client": runClient,
			"fetch": fetch, "freeport": findPort, "disk": mountDisk, "expired": writeExpired,
		},
	})
}
