package config

import (
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/pelletier/go-toml/v2"
)

// Format writes a file that says what a node exposes, forwards and is a proxy at, and its name.
func Format(n control.Node) ([]byte, error) {
	c := content{Node: map[string]any{"name": n.Name}}
	for _, x := range n.Exposed {
		e := expose{Service: x.Service, Target: x.Target, Files: x.Files, Idle: duration(x.IdleTimeout), ProxyProtocol: x.ProxyProtocol, Deny: texts(x.Deny)}
		if allow := texts(x.Allow); len(allow) != 1 || allow[0] != everyone {
			e.Allow = allow
		}
		c.Expose = append(c.Expose, e)
	}
	for _, f := range n.Forwards {
		c.Forward = append(c.Forward, fwd{
			Listen: f.Listen, Target: f.Target, DirectOnly: f.DirectOnly, WaitDirect: duration(f.WaitDirect), Plain: f.Plain, Spread: f.Spread, Idle: duration(f.IdleTimeout), Mode: f.Mode, Owner: f.Owner,
		})
	}
	for _, p := range n.Proxies {
		c.Proxy = append(c.Proxy, proxy{p.Listen, p.Others})
	}
	return toml.Marshal(c)
}

// everyone is the rule that a service has if no other was given.
const everyone = "everyone"

func texts(rules []control.Rule) (out []string) {
	for _, r := range rules {
		out = append(out, r.Rule)
	}
	return out
}
