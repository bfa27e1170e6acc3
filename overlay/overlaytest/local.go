package overlaytest

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/p2p/unixsock"
)

// sockets is the directory in which the nodes of all tests meet that run now.
var sockets struct {
	mu    sync.Mutex
	path  string
	tests int
}

// Local returns a Config for a node that is reached on this machine alone, without
// a port: by those of New, Processes and Join, and by others with what Local
// returned, until the test ends. Where there is no such path it listens at
// Loopback.
func Local(t testing.TB) overlay.Config {
	t.Helper()
	if !unixsock.Supported {
		return Network()
	}
	sockets.mu.Lock()
	defer sockets.mu.Unlock()
	if sockets.tests == 0 {
		base := ""
		if runtime.GOOS == "darwin" {
			base = "/tmp" // the usual one is too long for a socket
		}
		path, err := os.MkdirTemp(base, "overlaytest")
		if err != nil {
			t.Fatal(err)
		}
		sockets.path = path
	}
	sockets.tests++
	t.Cleanup(releaseSockets)
	return overlay.Config{LocalDir: sockets.path, LocalOnly: true}
}

func releaseSockets() {
	sockets.mu.Lock()
	defer sockets.mu.Unlock()
	if sockets.tests--; sockets.tests == 0 {
		_ = os.RemoveAll(sockets.path) // what is left is left in the directory for temporary files
	}
}
