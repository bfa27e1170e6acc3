package daemon

import (
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

func (d *Daemon) invite(o control.InviteOptions) (control.Invite, error) {
	options, err := inviteOptions(o)
	if err != nil {
		return control.Invite{}, badRequest{err}
	}
	inv, err := d.mesh.Invite(options)
	if err != nil {
		return control.Invite{}, err
	}
	return control.Invite{Version: control.Version, ID: inv.ID().String(), Invite: inv.Text(), Expires: inv.Grant().NotAfter}, nil
}

func inviteOptions(o control.InviteOptions) (overlay.InviteOptions, error) {
	out := overlay.InviteOptions{Expires: o.Expires, Name: o.Name, Uses: o.Uses, Services: o.Services}
	if o.Expires < 0 {
		return out, badRequestf("expires %v: an invite needs some time", o.Expires)
	}
	if o.Uses < 0 || o.Uses > credential.MaxUses {
		return out, badRequestf("uses %d: not 0 to %d", o.Uses, credential.MaxUses)
	}
	if len(o.Services) > credential.MaxServices {
		return out, badRequestf("%d services: at most %d", len(o.Services), credential.MaxServices)
	}
	for _, service := range o.Services {
		if err := credential.CheckName(service); err != nil {
			return out, badRequestf("service %w", err)
		}
	}
	if o.Name != "" {
		if err := credential.CheckName(o.Name); err != nil {
			return out, err
		}
	}
	if o.Roles == "" {
		return out, nil
	}
	var err error
	out.Roles, err = credential.ParseRoles(o.Roles)
	return out, err
}

func (d *Daemon) invites() ([]control.InviteInfo, error) {
	list, err := d.mesh.Invites()
	if err != nil {
		return nil, err
	}
	out := []control.InviteInfo{}
	for _, inv := range list {
		out = append(out, inviteView(inv, time.Now()))
	}
	return out, nil
}

func inviteView(inv overlay.InviteInfo, now time.Time) control.InviteInfo {
	v := control.InviteInfo{
		Version: control.Version,
		ID:      inv.ID.String(), Name: inv.Name, Roles: inv.Roles.String(), Services: inv.Services,
		Uses: inv.Uses, Used: []string{}, Made: inv.Made, Expires: inv.Expires, State: inviteState(inv, now),
	}
	for _, id := range inv.Used {
		v.Used = append(v.Used, id.String())
	}
	return v
}

func inviteState(inv overlay.InviteInfo, now time.Time) control.InviteState {
	switch {
	case inv.Revoked:
		return control.InviteRevoked
	case now.After(inv.Expires):
		return control.InviteExpired
	case inv.Uses > 0 && len(inv.Used) >= inv.Uses:
		return control.InviteUsedUp
	}
	return control.InviteOpen
}
