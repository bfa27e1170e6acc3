package lan

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A Finder finds the nodes of its group on the local network, and is found.
type Finder struct {
	cfg   Config
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
	stats counters

	closeOnce sync.Once

	packets chan packet
	asks    chan func(*talk)
	news    *mailbox

	sockets [2]atomic.Pointer[socket] // by family; nil if it can't be opened

	mu     sync.Mutex // one Refresh or Close at a time; guards joined
	joined []link
}

// New starts a Finder on the interfaces that there are. That there is none, or
// that no port can be had, is no error: Refresh tries again.
func New(c Config) (*Finder, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("lan: %w", err)
	}
	boxes, err := newBoxes(c.Group)
	if err != nil {
		return nil, fmt.Errorf("lan: %w", err)
	}
	f := &Finder{cfg: c, packets: make(chan packet, 16), asks: make(chan func(*talk)), news: newMailbox()}
	f.ctx, f.stop = context.WithCancel(context.Background())
	t := &talk{
		hearing:  hearing{boxes: boxes, self: c.Self, all: map[place]*heard{}, stats: &f.stats},
		instance: newInstance(),
		addrs:    c.Addrs,
	}
	f.wg.Go(func() { f.run(t) })
	go f.news.deliver(f.ctx, c.Found) // not waited for, so that Found may call Close
	f.Refresh()
	return f, nil
}

func newInstance() string {
	var b [instanceLen / 2]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Refresh looks which interfaces there are, speaks up on each, asks who is there,
// and has Found called anew. It is for when the network or the addresses changed.
func (f *Finder) Refresh() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return
	}
	now, err := links()
	if err != nil {
		f.cfg.Logger.Warn("LAN not seen", "err", err)
	}
	f.openLocked()
	for _, s := range f.opened() {
		for _, l := range f.joined {
			s.leave(l)
		}
		for _, l := range now {
			if err := s.join(l); err != nil && l.speaks(s.family) {
				f.cfg.Logger.Debug("LAN not heard", "link", l.name, "family", s.family, "err", err)
			}
		}
	}
	f.joined = now
	f.ask(func(t *talk) { t.restart(now, time.Now()) })
}

// openLocked opens what is not open.
func (f *Finder) openLocked() {
	for i := range f.sockets {
		if f.sockets[i].Load() != nil {
			continue
		}
		s, err := openSocket(f.ctx, family(i))
		if err != nil {
			f.cfg.Logger.Debug("LAN not heard", "family", family(i), "err", err)
			continue
		}
		f.sockets[i].Store(s)
		f.wg.Go(func() { f.runReader(s) })
	}
}

// Peers returns who is there now, as far as is known.
func (f *Finder) Peers() []peer.AddrInfo {
	var out []peer.AddrInfo
	f.ask(func(t *talk) { out = t.peers() })
	return out
}

// Stats returns what was counted since New.
func (f *Finder) Stats() Stats {
	return Stats{f.stats.foreign.Load(), f.stats.garbage.Load(), f.stats.dropped.Load()}
}

// Close says goodbye and waits until nothing more is heard. Found is not called
// after it, but for a call that goes on. It may be called more than once, and by
// Found.
func (f *Finder) Close() error {
	f.closeOnce.Do(func() {
		f.ask(func(t *talk) {
			f.send(t.leave(time.Now()))
			t.links = nil // nothing is said after a goodbye
		})
		f.stop()
		f.mu.Lock() // no Refresh opens another socket
		for _, s := range f.opened() {
			_ = s.conn.Close()
		}
		f.mu.Unlock()
		f.wg.Wait()
	})
	return nil
}

// ask has the loop do something with its state, unless it has ended.
func (f *Finder) ask(do func(*talk)) {
	done := make(chan struct{})
	select {
	case f.asks <- func(t *talk) { defer close(done); do(t) }:
		<-done
	case <-f.ctx.Done():
	}
}

// run owns the state.
func (f *Finder) run(t *talk) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return
		case do := <-f.asks:
			do(t)
		case p := <-f.packets:
			for _, info := range t.receive(p, time.Now()) {
				f.cfg.Logger.Debug("found on LAN", "peer", info.ID, "addr", info.Addrs)
				f.news.put(info)
			}
		case <-timer.C:
		}
		f.send(t.tick(time.Now()))
		if next := t.next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// send sends what it can: an interface may be gone before anyone says so.
func (f *Finder) send(all []outgoing) {
	if len(all) == 0 {
		return
	}
	for _, s := range f.opened() {
		for _, o := range all {
			if !o.link.speaks(s.family) || !slices.Contains(o.families, s.family) {
				continue
			}
			if err := s.send(o.link, o.data); err != nil {
				f.cfg.Logger.Debug("LAN not reached", "link", o.link.name, "family", s.family, "err", err)
			}
		}
	}
}

// runReader hands on what is about the service, as fast as it may.
func (f *Finder) runReader(s *socket) {
	var read, failed pace
	buf := make([]byte, maxPacket)
	for f.ctx.Err() == nil {
		p, err := s.read(buf)
		if err != nil && (errors.Is(err, net.ErrClosed) || failed.pause(time.Now(), maxFailuresPerSecond) > 0) {
			f.lost(s, err)
			return
		}
		if err == nil && aboutUs(p.data) {
			p.data = bytes.Clone(p.data)
			select {
			case f.packets <- p:
			case <-f.ctx.Done():
			}
		}
		if pause := read.pause(time.Now(), maxPacketsPerSecond); pause > 0 {
			select {
			case <-time.After(pause):
			case <-f.ctx.Done():
			}
		}
	}
}

// opened returns the sockets that there are.
func (f *Finder) opened() []*socket {
	var out []*socket
	for i := range f.sockets {
		if s := f.sockets[i].Load(); s != nil {
			out = append(out, s)
		}
	}
	return out
}

// lost makes room for another socket at the next Refresh.
func (f *Finder) lost(s *socket, err error) {
	f.sockets[s.family].CompareAndSwap(s, nil)
	_ = s.conn.Close()
	if f.ctx.Err() == nil {
		f.cfg.Logger.Debug("LAN not heard", "family", s.family, "err", err)
	}
}
