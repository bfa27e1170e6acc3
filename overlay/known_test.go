package overlay

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

func tcpPort(port int) multiaddr.Multiaddr {
	return multiaddr.StringCast(fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", port))
}

// ids returns the peers' IDs in their order.
func ids(infos []peer.AddrInfo) []peer.ID {
	var out []peer.ID
	for _, info := range infos {
		out = append(out, info.ID)
	}
	return out
}

func loadKnown(t testing.TB, s store) *knownPeers {
	t.Helper()
	k, err := loadKnownPeers(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKnownPeersAreKept(t *testing.T) {
	s := openTestStore(t, t.TempDir())
	k := loadKnown(t, s)
	k.see("a", []multiaddr.Multiaddr{tcpPort(1)}, epoch)
	k.see("b", []multiaddr.Multiaddr{tcpPort(2), tcpPort(3)}, epoch.Add(2*time.Second))
	k.see("c", nil, epoch.Add(time.Second))
	k.see("a", []multiaddr.Multiaddr{tcpPort(4)}, epoch.Add(3*time.Second)) // it has moved
	k.see("b", nil, epoch.Add(4*time.Second))                               // seen, and it did not say where
	for _, again := range []*knownPeers{k, saved(t, s, k)} {
		infos := again.infos()
		if got := ids(infos); !slices.Equal(got, []peer.ID{"b", "a", "c"}) {
			t.Errorf("infos() = %v, want b, a, c: the last seen first", got)
		}
		if got := fmt.Sprint(infos[0].Addrs, infos[1].Addrs, infos[2].Addrs); got != fmt.Sprint([]multiaddr.Multiaddr{tcpPort(2), tcpPort(3)}, []multiaddr.Multiaddr{tcpPort(4)}, []multiaddr.Multiaddr{}) {
			t.Errorf("infos() has addresses %s", got)
		}
	}
}

// A peer that has no address, or one on this machine alone, is kept by its ID.
func TestKnownPeersWithoutAddresses(t *testing.T) {
	s := openTestStore(t, t.TempDir())
	k := loadKnown(t, s)
	k.see("a", nil, epoch.Add(2*time.Second))
	k.see("b", []multiaddr.Multiaddr{secretSocket}, epoch.Add(time.Second))
	k.see("c", []multiaddr.Multiaddr{secretSocket, tcpPort(1)}, epoch)
	for _, again := range []*knownPeers{k, saved(t, s, k)} {
		infos := again.infos()
		if got := ids(infos); !slices.Equal(got, []peer.ID{"a", "b", "c"}) {
			t.Fatalf("infos() = %v, want a, b, c", got)
		}
		if len(infos[0].Addrs)+len(infos[1].Addrs) > 0 || len(infos[2].Addrs) != 1 || !infos[2].Addrs[0].Equal(tcpPort(1)) {
			t.Errorf("infos() = %v, want an address of c alone", infos)
		}
	}
}

func saved(t testing.TB, s store, k *knownPeers) *knownPeers {
	t.Helper()
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	return loadKnown(t, s)
}

func TestKnownPeersAreBounded(t *testing.T) {
	s := newMemoryStore()
	k := loadKnown(t, s)
	many := make([]multiaddr.Multiaddr, 2*maxKnownAddrs)
	for i := range many {
		many[i] = tcpPort(i + 1)
	}
	for n := range maxKnown + 3 {
		k.see(numbered(n), many, epoch.Add(time.Duration(n)*time.Second))
	}
	for _, again := range []*knownPeers{k, saved(t, s, k)} {
		infos := again.infos()
		if len(infos) != maxKnown || infos[0].ID != numbered(maxKnown+2) || infos[maxKnown-1].ID != numbered(3) {
			t.Errorf("infos() has %d peers, want the last %d", len(infos), maxKnown)
		}
		if got := len(infos[0].Addrs); got != maxKnownAddrs {
			t.Errorf("a peer has %d addresses, want %d", got, maxKnownAddrs)
		}
	}
}

// A damaged entry costs that entry.
func TestKnownPeersSkipWhatIsDamaged(t *testing.T) {
	s := newMemoryStore()
	k := loadKnown(t, s)
	k.see("a", []multiaddr.Multiaddr{tcpPort(1)}, epoch)
	saved(t, s, k)
	bad := knownPeer{Addrs: [][]byte{{0xff}, tcpPort(2).Bytes()}, Seen: 1}
	if err := s.put(membersBucket, map[string][]byte{"b": []byte("hello"), "c": unhex(t, encoded(t, bad))}); err != nil {
		t.Fatal(err)
	}
	infos := loadKnown(t, s).infos()
	if got := ids(infos); !slices.Equal(got, []peer.ID{"a", "c"}) || len(infos[1].Addrs) != 1 {
		t.Errorf("infos() = %v, want a, and c with the address that is one", infos)
	}
}

// What could not be saved is saved the next time.
func TestKnownPeersSaveAgain(t *testing.T) {
	s := &failingStore{store: newMemoryStore(), err: errors.New("no space left")}
	k := loadKnown(t, s)
	k.see("a", []multiaddr.Multiaddr{tcpPort(1)}, epoch)
	if err := k.save(); !errors.Is(err, s.err) {
		t.Errorf("save = %v, want %v", err, s.err)
	}
	s.err = nil
	if got := ids(saved(t, s, k).infos()); !slices.Equal(got, []peer.ID{"a"}) {
		t.Errorf("after the second save infos() = %v, want a", got)
	}
	s.err = errors.New("nothing is to be written")
	if err := k.save(); err != nil {
		t.Errorf("save without changes = %v, want nil", err)
	}
}

// failingStore fails to write as long as it has an error.
type failingStore struct {
	store
	err error
}

func (f *failingStore) put(bucket string, values map[string][]byte) error {
	if f.err != nil {
		return f.err
	}
	return f.store.put(bucket, values)
}
