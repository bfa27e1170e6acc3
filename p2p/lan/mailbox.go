package lan

import (
	"context"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A mailbox holds what the user is to be told, who may take any time to listen.
// There are no more letters than peers that are remembered.
type mailbox struct {
	wake chan struct{}

	mu      sync.Mutex // guards letters
	letters []peer.AddrInfo
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// put adds a letter. Of older ones to the same peer it takes the addresses, which
// may be of other links.
func (m *mailbox) put(info peer.AddrInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, old := range m.letters {
		if old.ID == info.ID {
			info.Addrs = unique(append(info.Addrs, old.Addrs...))
			m.letters = slices.Delete(m.letters, i, i+1)
			break
		}
	}
	if len(m.letters) < maxPeers {
		m.letters = append(m.letters, info)
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() (peer.AddrInfo, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.letters) == 0 {
		return peer.AddrInfo{}, false
	}
	info := m.letters[0]
	m.letters = slices.Delete(m.letters, 0, 1)
	return info, true
}

// deliver calls found with each letter until ctx ends.
func (m *mailbox) deliver(ctx context.Context, found func(peer.AddrInfo)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		}
		for info, ok := m.take(); ok && ctx.Err() == nil; info, ok = m.take() {
			found(info)
		}
	}
}
