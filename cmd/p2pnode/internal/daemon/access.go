package daemon

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/credential"
)

// A named rule is one as somebody wrote it, and what it came to.
type named struct {
	rule overlay.Rule
	name string // of the member that the rule is pinned to
	note string
}

// resolve reads a rule. The name of a member that chose it itself proves nothing,
// so it stands for that member's peer ID.
func (d *Daemon) resolve(text string) (named, error) {
	rule, err := overlay.ParseRule(text)
	if err != nil {
		return named{}, err
	}
	out := named{rule: rule}
	if rule != overlay.NameRule(text) {
		return out, nil
	}
	var found []overlay.Member
	for _, m := range d.mesh.Members() {
		if m.Name == text {
			found = append(found, m)
		}
	}
	switch {
	case len(found) == 0:
		out.note = fmt.Sprintf("no member is called %s; it holds for one that an admin gives that name", text)
	case len(found) > 1:
		return named{}, ambiguous(text, found)
	case found[0].NameChosen:
		out.rule, out.name = overlay.PeerRule(found[0].ID), text
	}
	return out, nil
}

func ambiguous(name string, members []overlay.Member) error {
	err := &overlay.AmbiguousError{Name: name}
	for _, m := range members {
		err.IDs = append(err.IDs, m.ID)
	}
	return err
}

// resolveAll reads rules.
func (d *Daemon) resolveAll(rules []control.Rule) ([]named, error) {
	var out []named
	for _, r := range rules {
		n, err := d.resolve(r.Rule)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// editAccess changes who may use a service, for open streams as well.
func (d *Daemon) editAccess(edit control.Access) (control.Access, error) {
	d.editing.Lock()
	defer d.editing.Unlock()
	out, err := d.editAccessLocked(edit)
	if err != nil {
		return control.Access{}, fmt.Errorf("access to %.80s: %w", edit.Service, err)
	}
	return out, nil
}

func (d *Daemon) editAccessLocked(edit control.Access) (control.Access, error) {
	if len(edit.Allow)+len(edit.Deny) == 0 {
		return control.Access{}, badRequestf("nobody to allow or deny")
	}
	e := d.exposedAs(edit.Service)
	switch {
	case e == nil:
		return control.Access{}, errNotExposed
	case e.want.From != "":
		return control.Access{}, errFromConfig
	case e.listener == nil:
		return control.Access{}, fmt.Errorf("it is down: %w", e.down)
	}
	allow, err := d.resolveAll(edit.Allow)
	if err != nil {
		return control.Access{}, err
	}
	deny, err := d.resolveAll(edit.Deny)
	if err != nil {
		return control.Access{}, err
	}
	a := e.listener.Access()
	for _, n := range allow {
		a = a.With(n.rule)
	}
	for i, n := range deny {
		deny[i] = e.pinned(n)
		a = a.Without(deny[i].rule)
	}
	if len(a.Allow) > maxRules || len(a.Deny) > maxRules {
		return control.Access{}, badRequestf("more than %d rules", maxRules)
	}
	e.listener.SetAccess(a)
	made := append(allow, deny...)
	d.remember(e, made)
	d.events.tell(e.event(control.EventAccess))
	if err := d.keepExposed(e); err != nil {
		return control.Access{}, fmt.Errorf("it is changed, but will be as before when the node is started anew: %w", err)
	}
	return d.accessView(edit.Service, e, made), nil
}

// maxRules bounds the rules of one service.
const maxRules = 1000

// pinned returns the rule that was made of a name, if the member that had it is
// not known any more.
func (e *exposed) pinned(n named) named {
	if n.note == "" {
		return n
	}
	for id, name := range e.names {
		if name == n.rule.String() {
			return named{rule: overlay.PeerRule(id), name: name}
		}
	}
	return n
}

// remember keeps the names that rules were made of, to show them.
func (d *Daemon) remember(e *exposed, made []named) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range made {
		if id, err := peer.Decode(n.rule.String()); err == nil && n.name != "" {
			e.names[id] = n.name
		}
	}
}

func (d *Daemon) listAccess() []control.Access { return viewExposed(d, d.accessView) }

// accessView tells who may use a service. Notes are told of the rules that were
// made just now.
func (d *Daemon) accessView(service string, e *exposed, made []named) control.Access {
	a := e.access()
	return control.Access{
		Version: control.Version, Service: service,
		Allow: d.ruleViews(a.Allow, e, made), Deny: d.ruleViews(a.Deny, e, made),
	}
}

func (d *Daemon) ruleViews(rules []overlay.Rule, e *exposed, made []named) []control.Rule {
	out := []control.Rule{}
	for _, r := range rules {
		v := control.Rule{Rule: r.String(), Name: d.nameOf(r, e)}
		for _, n := range made {
			if n.rule == r {
				v.Note = n.note
			}
		}
		out = append(out, v)
	}
	return out
}

// nameOf returns the name of the member that a rule is pinned to, if it is.
func (d *Daemon) nameOf(r overlay.Rule, e *exposed) string {
	text := r.String()
	id, err := peer.Decode(text)
	if err != nil || credential.CheckName(text) == nil || r == overlay.Everyone {
		return ""
	}
	d.mu.Lock()
	name := e.names[id]
	d.mu.Unlock()
	if m, ok := d.mesh.Member(id); ok && name == "" {
		return m.Name
	}
	return name
}
