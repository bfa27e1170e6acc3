package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

func (d *Daemon) revoke(ctx context.Context, o control.Revocation) (control.Revoked, error) {
	out := control.Revoked{Version: control.Version, Out: []control.Out{}}
	before := d.mesh.Members()
	if isInvite(o.Who, before) {
		known, err := d.knowsInvite(o.Who)
		if err != nil {
			return out, err
		}
		out.Invite, out.Unknown = o.Who, !known
	}
	if err := d.mesh.Revoke(ctx, o.Who, overlay.RevokeOptions{WithAdmittedSince: o.Since}); err != nil {
		return out, err
	}
	in := map[peer.ID]bool{}
	for _, m := range d.mesh.Members() {
		in[m.ID] = !m.Self || d.mesh.Err() == nil
	}
	for _, m := range before {
		if !in[m.ID] {
			out.Out = append(out.Out, control.Out{ID: m.ID.String(), Name: m.Name})
		}
	}
	return out, nil
}

// isInvite tells whether a text is taken for the ID of an invite. A member may
// have such a name.
func isInvite(who string, members []overlay.Member) bool {
	for _, m := range members {
		if m.Name == who {
			return false
		}
	}
	_, err := credential.ParseSerial(who)
	return err == nil
}

// knowsInvite tells whether this node made an invite.
func (d *Daemon) knowsInvite(id string) (bool, error) {
	list, err := d.mesh.Invites()
	for _, inv := range list {
		if inv.ID.String() == id {
			return true, nil
		}
	}
	return false, err
}

// leave gives up the membership, and ends the node.
func (d *Daemon) leave(ctx context.Context) (control.Left, error) {
	self := d.mesh.Self()
	d.leaving.Lock()
	err := d.mesh.Leave(ctx)
	d.leaving.Unlock()
	switch {
	case err != nil && errors.Is(d.mesh.Err(), overlay.ErrLeft):
		return control.Left{}, fmt.Errorf("%w: %w", errEndedBadly, err) // it is out all the same
	case err != nil:
		return control.Left{}, err
	}
	out := control.Left{Version: control.Version, ID: self.ID.String(), Name: self.Name, Mesh: d.mesh.ID().String()}
	return out, d.goDown()
}
