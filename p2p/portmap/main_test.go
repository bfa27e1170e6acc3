package portmap

import (
	"context"
	"flag"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/p2pnode/p2pnode/p2p/portmap/portmaptest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // the fuzzer has goroutines of its own
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what a test waits for. It passes only when a test fails.
const patience = 30 * time.Second

var (
	loopback = netip.MustParseAddr("127.0.0.1")
	outside  = netip.MustParseAddr("203.0.113.7")
	home     = uplink{loopback, loopback}
)

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// router starts a responder, and mapperAt a Mapper that has it for its gateway.
func router(t testing.TB, c portmaptest.Config) *portmaptest.Server {
	t.Helper()
	s, err := portmaptest.Listen(netip.AddrPortFrom(loopback, 0), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mapperAt(t testing.TB, server netip.AddrPort) *Mapper {
	t.Helper()
	m := newMapper(Config{}, surroundings{
		uplink:  func() (uplink, error) { return home, nil },
		clients: func(uplink) []client { return []client{&pcp{server: server}, &natpmp{server: server}} },
	})
	t.Cleanup(func() { m.Close() })
	return m
}

// await returns the first report that is as wanted.
func await(t testing.TB, m *Mapper, what string, ok func(Report) bool) Report {
	t.Helper()
	var last Report
	for last = range m.Watch(testContext(t)) {
		if ok(last) {
			return last
		}
	}
	t.Fatalf("no report of %s; the last is %+v", what, last)
	return last
}

// attempt returns what came of a protocol.
func attempt(r Report, p Protocol) Attempt {
	for _, a := range r.Attempts {
		if a.Protocol == p {
			return a
		}
	}
	return Attempt{}
}
