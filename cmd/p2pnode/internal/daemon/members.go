package daemon

import (
	"context"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
)

func (d *Daemon) members() []control.Member {
	var out []control.Member
	for _, m := range d.mesh.Members() {
		out = append(out, memberView(m))
	}
	return out
}

func memberView(m overlay.Member) control.Member {
	v := control.Member{
		Version: control.Version,
		ID:      m.ID.String(), Name: m.Name, Roles: m.Roles.String(), Self: m.Self, Up: m.Up,
		RTT: milliseconds(m.RTT), Expires: m.Expires, Admitted: m.Admitted, NameChosen: m.NameChosen, Only: m.Services,
	}
	if m.Path != 0 {
		v.Path = m.Path.String()
	}
	if !m.Up && !m.Seen.IsZero() {
		v.Seen = &m.Seen
	}
	return v
}

// offersTimeout is how long a member may take to say what it offers.
const offersTimeout = 2 * time.Second

func (d *Daemon) whois(ctx context.Context, who string) (control.Whois, error) {
	m, err := d.mesh.FindMember(ctx, who)
	if err != nil {
		return control.Whois{}, err
	}
	out := control.Whois{Member: memberView(m), Offers: []string{}}
	ctx, cancel := context.WithTimeout(ctx, offersTimeout)
	defer cancel()
	names, err := d.mesh.ServicesOf(ctx, m.ID.String())
	if err != nil {
		out.NoOffers = err.Error()
	}
	out.Offers = append(out.Offers, names...)
	return out, nil
}
