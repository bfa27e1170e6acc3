package overlay

import (
	"testing"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"time"
)

// The DHT tells of a service while it is for everyone, and only then.
func TestOnlyOpenServicesArePublic(t *testing.T) {
	t.Parallel()
	now := time.Now()
	founder := newFounder(t, rootOf(t, 1), seeded(2), "alice", now)
	alice := mustOpenAs(t, founder)
	bob := mustOpenAs(t, founder.admit(t, seeded(3), now, credential.Terms{Name: "bob"}), full(t, alice))
	tell := func() (n int) {
		for range bob.table.Providers(testContext(t), bob.serviceKey("web")) {
			n++
		}
		return n
	}
	l, err := alice.Listen("web", NameRule("carol"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := tell(); got != 0 || l.public != nil {
		t.Errorf("the DHT tells of %d for a service for some, want none", got)
	}
	l.SetAccess(Access{Allow: []Rule{Everyone}})
	select {
	case <-l.Found():
	case <-testContext(t).Done():
		t.Fatal("a service for everyone is not found")
	}
	if got := tell(); got != 1 {
		t.Errorf("the DHT tells of %d for a service for everyone, want one", got)
	}
	l.SetAccess(Access{Allow: []Rule{NameRule("carol")}})
	if l.public != nil {
		t.Error("a service for some is still published")
	}
}
