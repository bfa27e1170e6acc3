package daemon

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/p2p"
)

func (d *Daemon) members() []control.Member {
	var out []control.Member
	for _, m := range d.mesh.Members() {
		out = append(out, d.memberView(m))
		d.measure(m)
	}
	return out
}

func (d *Daemon) memberView(m overlay.Member) control.Member {
	v := control.Member{
		Version: control.Version,
		ID:      m.ID.String(), Name: m.Name, Roles: m.Roles.String(), Self: m.Self, Up: m.Up,
		RTT: milliseconds(m.RTT), Expires: m.Expires, Admitted: m.Admitted, NameChosen: m.NameChosen, Only: m.Services,
	}
	if m.Path != 0 {
		v.Path = m.Path.String()
	}
	if m.Relay != "" {
		v.Relay = d.label(m.Relay)
	}
	if !m.Up && !m.Seen.IsZero() {
		v.Seen = &m.Seen
	}
	return v
}

// label returns a member's name, or else its ID.
func (d *Daemon) label(id peer.ID) string {
	if m, ok := d.mesh.Member(id); ok {
		return m.Name
	}
	return id.String()
}

const (
	// measureEvery is how often a member is pinged at most to have a round trip to
	// show: only when somebody asks for it, so that nothing is sent without need.
	measureEvery = 30 * time.Second

	// measureWidth bounds those that are pinged at once.
	measureWidth = 16

	measureTimeout = 5 * time.Second
)

// A measured remembers which members were pinged, and when.
type measured struct {
	slots chan struct{} // an element for each that is pinged now

	mu   sync.Mutex // guards the field below
	last map[peer.ID]time.Time
}

func newMeasured() *measured {
	return &measured{slots: make(chan struct{}, measureWidth), last: map[peer.ID]time.Time{}}
}

// due tells whether a member is to be pinged now, and takes it that it is.
func (m *measured) due(id peer.ID, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.last[id]) < measureEvery {
		return false
	}
	select {
	case m.slots <- struct{}{}:
	default:
		return false // the next who asks has it measured
	}
	maps.DeleteFunc(m.last, func(_ peer.ID, at time.Time) bool { return now.Sub(at) >= measureEvery })
	m.last[id] = now
	return true
}

// measure has the round trip to a member measured, if there is a connection and none
// was measured, for whoever asks next.
func (d *Daemon) measure(m overlay.Member) {
	if m.Self || m.Path == p2p.PathUnknown || m.RTT > 0 || !d.measured.due(m.ID, time.Now()) {
		return
	}
	ping := func() {
		defer func() { <-d.measured.slots }()
		ctx, cancel := context.WithTimeout(d.ctx, measureTimeout)
		defer cancel()
		if _, err := d.mesh.Node().Ping(ctx, m.ID); err != nil {
			d.log.Debug("measure the round trip", "member", m.Name, "err", err)
		}
	}
	if !d.enter(func() { d.streams.Go(ping) }) {
		<-d.measured.slots
	}
}

// offersTimeout is how long a member may take to say what it offers.
const offersTimeout = 2 * time.Second

func (d *Daemon) whois(ctx context.Context, who string) (control.Whois, error) {
	m, err := d.mesh.FindMember(ctx, who)
	if err != nil {
		return control.Whois{}, err
	}
	out := control.Whois{Member: d.memberView(m), Offers: []control.Offer{}}
	ctx, cancel := context.WithTimeout(ctx, offersTimeout)
	defer cancel()
	all, err := d.mesh.ServicesOf(ctx, m.ID.String())
	if err != nil {
		out.NoOffers = err.Error()
	}
	for _, s := range all {
		out.Offers = append(out.Offers, offerView(s))
	}
	return out, nil
}
