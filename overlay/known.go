package overlay

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/overlay/wire"
)

const (
	maxKnown      = 256 // peers remembered between runs, the last seen ones
	maxKnownAddrs = 16  // of each
)

// knownPeers is who to turn to at the next start: the members this node had
// connections to, and where they were, if that can be said.
type knownPeers struct {
	store store

	mu    sync.Mutex
	peers map[peer.ID]knownPeer
	dirty map[peer.ID]bool // changed since the last save
}

type knownPeer struct {
	Addrs [][]byte `cbor:"1,keyasint"`
	Seen  int64    `cbor:"2,keyasint"` // Unix time
}

func loadKnownPeers(s store) (*knownPeers, error) {
	k := &knownPeers{store: s, peers: map[peer.ID]knownPeer{}, dirty: map[peer.ID]bool{}}
	values, err := s.all(membersBucket)
	if err != nil {
		return nil, err
	}
	for id, data := range values {
		var p knownPeer
		if err := wire.Unmarshal(data, &p); err != nil {
			continue // it was a help, no more: the others are there
		}
		k.peers[peer.ID(id)] = p
	}
	return k, nil
}

// see takes in that a peer is at addrs now. One that has none is known by its ID,
// by which it is found on the same machine.
func (k *knownPeers) see(id peer.ID, addrs []multiaddr.Multiaddr, now time.Time) {
	p := knownPeer{Seen: now.Unix()}
	addrs = portable(addrs)
	for _, a := range addrs[:min(len(addrs), maxKnownAddrs)] {
		p.Addrs = append(p.Addrs, a.Bytes())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(p.Addrs) == 0 {
		p.Addrs = k.peers[id].Addrs
	}
	k.peers[id] = p
	k.dirty[id] = true
	if len(k.peers) > maxKnown {
		k.forgetOldestLocked()
	}
}

func (k *knownPeers) forgetOldestLocked() {
	var oldest peer.ID
	for id, p := range k.peers {
		if oldest == "" || p.Seen < k.peers[oldest].Seen {
			oldest = id
		}
	}
	delete(k.peers, oldest)
	k.dirty[oldest] = true
}

// infos returns the peers, the last seen first.
func (k *knownPeers) infos() []peer.AddrInfo {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]peer.AddrInfo, 0, len(k.peers))
	for id, p := range k.peers {
		info := peer.AddrInfo{ID: id}
		for _, b := range p.Addrs {
			if a, err := multiaddr.NewMultiaddrBytes(b); err == nil {
				info.Addrs = append(info.Addrs, a)
			}
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b peer.AddrInfo) int {
		return cmp.Compare(k.peers[b.ID].Seen, k.peers[a.ID].Seen)
	})
	return out
}

// save writes down what has changed.
func (k *knownPeers) save() error {
	k.mu.Lock()
	values := map[string][]byte{}
	for id := range k.dirty {
		p, ok := k.peers[id]
		if !ok {
			values[string(id)] = nil
			continue
		}
		data, err := wire.Marshal(p)
		if err != nil {
			k.mu.Unlock()
			return err
		}
		values[string(id)] = data
	}
	clear(k.dirty)
	k.mu.Unlock()
	if len(values) == 0 {
		return nil
	}
	err := k.store.put(membersBucket, values)
	if err != nil { // the next save tries again
		k.mu.Lock()
		defer k.mu.Unlock()
		for id := range values {
			k.dirty[peer.ID(id)] = true
		}
	}
	return err
}
