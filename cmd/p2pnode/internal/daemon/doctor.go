package daemon

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/p2p"
	"github.com/p2pnode/p2pnode/p2p/portmap"
)

const (
	// lookTimeout bounds how long members may take to say how they see this node.
	lookTimeout = 5 * time.Second

	// tryTimeout bounds how long a member is tried, and tryDirect how long of that for
	// a path that is no relay's: there are three tries in it.
	tryTimeout = 6 * time.Second
	tryDirect  = 4 * time.Second
)

// examine tells of the network, or of the ways to a member if one is named.
func (d *Daemon) examine(r *http.Request, fresh bool) (any, error) {
	if r.URL.Query().Has("member") {
		return d.why(r.Context(), query(r, "member"), fresh)
	}
	return d.doctor(r.Context(), fresh), nil
}

func (d *Daemon) doctor(ctx context.Context, look bool) control.Doctor {
	node := d.mesh.Node()
	if look {
		ctx, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		node.Look(ctx)
	}
	r, self := node.Report(), d.mesh.Self()
	out := control.Doctor{
		Version: control.Version, ID: self.ID.String(), Name: self.Name, Addrs: append([]multiaddr.Multiaddr{}, r.Addrs...),
		IPv4: family(r.NAT4, r.Addrs, multiaddr.P_IP4), IPv6: family(r.NAT6, r.Addrs, multiaddr.P_IP6),
		Reachable: r.Reachable.String(), Relays: d.peers(r.Relays), Refused: []control.RefusedRelay{},
		Relaying: relayingView(r.Relaying), Local: d.local(), Proxy: d.proxy, Members: []control.Member{},
	}
	if ports, asked := node.PortMappings(); asked {
		out.Router = routerView(ports)
	}
	if found, looks := node.Nearby(); looks != nil {
		n := len(found)
		out.Nearby = &n
	}
	for _, f := range r.Refused {
		out.Refused = append(out.Refused, control.RefusedRelay{Peer: d.peer(f.Peer), Error: f.Err.Error()})
	}
	for _, m := range d.members() {
		if !m.Self && m.Path != "" {
			out.Members = append(out.Members, m)
		}
	}
	return out
}

func routerView(r portmap.Report) *control.Router {
	out := &control.Router{Asked: []control.RouterAsked{}, Mappings: []control.PortMapping{}}
	if r.Gateway.IsValid() {
		out.Gateway = r.Gateway.String()
	}
	if r.Err != nil {
		out.Error = r.Err.Error()
	}
	for _, a := range r.Attempts {
		asked := control.RouterAsked{Protocol: a.Protocol.String(), Answer: a.Answer.String()}
		if a.Err != nil {
			asked.Error = a.Err.Error()
		}
		out.Asked = append(out.Asked, asked)
	}
	for _, m := range r.Mappings {
		out.Mappings = append(out.Mappings, control.PortMapping{
			Proto: string(m.Proto), Port: m.Port, External: m.External.String(), By: m.By.String(), Until: m.Until, Reachable: m.Reachable(),
		})
	}
	return out
}

func (d *Daemon) peer(id peer.ID) control.Peer {
	m, _ := d.mesh.Member(id)
	return control.Peer{ID: id.String(), Name: m.Name}
}

func (d *Daemon) peers(ids []peer.ID) []control.Peer {
	out := []control.Peer{}
	for _, id := range ids {
		out = append(out, d.peer(id))
	}
	return out
}

func family(n p2p.NAT, addrs []multiaddr.Multiaddr, code int) control.Family {
	f := control.Family{NAT: natView(n), TCP: n.TCP.String(), Seen: len(n.Seen)}
	if n.External.IsValid() {
		f.External = n.External.String()
	}
	for _, a := range addrs {
		if len(a) > 0 && a[0].Protocol().Code == code {
			f.Addrs++
		}
	}
	return f
}

func relayingView(r p2p.Relaying) control.Relaying {
	return control.Relaying{Off: r.Off, Bytes: r.Bytes}
}

func natView(n p2p.NAT) control.NAT {
	return control.NAT{Mapping: n.Mapping.String(), Filtering: n.Filtering.String(), UDP: n.UDP.String()}
}

func natViews(both [2]p2p.NAT) [2]control.NAT {
	return [2]control.NAT{natView(both[0]), natView(both[1])}
}

// why tells what is known of the ways to a member. Before that it tries them, unless
// told not to.
func (d *Daemon) why(ctx context.Context, who string, try bool) (control.Why, error) {
	m, err := d.mesh.FindMember(ctx, who)
	if err != nil {
		return control.Why{}, err
	}
	var failed error
	if try && !m.Self {
		failed = d.try(ctx, m.ID)
	}
	if now, ok := d.mesh.Member(m.ID); ok {
		m = now
	}
	w := d.whyView(m)
	if failed != nil && w.Member.Path == "" {
		w.Error = failed.Error()
	}
	return w, nil
}

// try has a member connected to, and a direct path to it looked for, and measures the
// round trip.
func (d *Daemon) try(ctx context.Context, id peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	_, _, err := d.mesh.Ping(p2p.WaitDirect(ctx, tryDirect), id.String())
	if errors.Is(err, p2p.ErrOnlyRelay) {
		_, _, err = d.mesh.Ping(ctx, id.String())
	}
	return err
}

func (d *Daemon) whyView(m overlay.Member) control.Why {
	r, here := d.mesh.Node().Why(m.ID), d.mesh.Node().Report()
	w := control.Why{
		Version: control.Version, Member: d.memberView(m), Connections: []control.Connection{}, Addrs: []control.Addr{},
		Here: natViews([2]p2p.NAT{here.NAT4, here.NAT6}), There: natViews([2]p2p.NAT{}), Punchable: p2p.Unknown.String(), Changes: []control.PathChange{},
	}
	for _, c := range r.Connections {
		w.Connections = append(w.Connections, d.connectionView(c))
	}
	for _, a := range r.Addrs {
		if m.Self {
			break // they are where others look for it
		}
		w.Addrs = append(w.Addrs, addrView(a))
	}
	if u := r.Upgrade; u != nil {
		w.Here, w.There, w.Punchable = natViews(u.Here), natViews(u.There), u.Punchable.String()
		w.Upgrade = &control.Upgrade{At: u.At, Tries: u.Tries, Path: u.Path.String(), Reason: u.Reason()}
	}
	for _, c := range d.mesh.PathChanges(m.ID) {
		w.Changes = append(w.Changes, d.changeView(c))
	}
	return w
}

func (d *Daemon) connectionView(c p2p.Connection) control.Connection {
	out := control.Connection{Path: c.Path.String(), Addr: c.Addr.String(), Inbound: c.Inbound, Since: c.Since, Streams: c.Streams}
	if c.Relay != "" {
		out.Relay = d.label(c.Relay)
	}
	return out
}

func addrView(a p2p.AddrReport) control.Addr {
	out := control.Addr{Addr: a.Addr.String(), Path: a.Path.String(), Source: a.Source, Took: milliseconds(a.Took), Verdict: string(a.Outcome)}
	if !a.Tried.IsZero() {
		out.Tried = &a.Tried
	}
	if a.Err != nil {
		out.Error = a.Err.Error()
	}
	return out
}

func (d *Daemon) changeView(c overlay.PathChange) control.PathChange {
	out := control.PathChange{At: c.At, Why: c.Why}
	if c.From != p2p.PathUnknown {
		out.From = c.From.String()
	}
	if c.To != p2p.PathUnknown {
		out.To = c.To.String()
	}
	if c.Relay != "" {
		out.Relay = d.label(c.Relay)
	}
	return out
}
