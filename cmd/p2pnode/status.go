package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// statusCommand shows what the running node is and does.
func statusCommand(e *env) *cobra.Command {
	var watched bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show this node: its name, where it is met, what it exposes and forwards, its streams",
		Example: `  p2pnode status
  p2pnode status --watch`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error {
				if watched {
					ticker := time.NewTicker(watchEvery)
					defer ticker.Stop()
					return watch(cmd.Context(), e, c, ticker.C)
				}
				n, err := c.Status(cmd.Context())
				if err != nil {
					return err
				}
				if e.json {
					return e.print(n, "")
				}
				return writeStatus(e.stdout, n)
			})
		},
	}
	cmd.Flags().BoolVar(&watched, "watch", false, "show members, paths, streams and bytes every second, until interrupted")
	return cmd
}

func writeStatus(w io.Writer, n control.Node) error {
	t := newTable(w)
	t.row("name", n.Name)
	t.row("id", n.ID)
	t.row("mesh", n.Mesh)
	t.row("roles", fmt.Sprintf("%s, until %s", n.Roles, n.Expires.Format(time.DateOnly)))
	t.row("renewal", fmt.Sprintf("from %s on, by an admin that is up", n.Renewal.Format(time.DateOnly)))
	if len(n.Only) > 0 {
		t.row("may use", mayUse(n.Only))
	}
	t.row("members", fmt.Sprintf("%d others known, %d up", n.Members, n.Up))
	t.row("running", fmt.Sprintf("process %d, for %v", n.PID, time.Since(n.Since).Round(time.Second)))
	for i, a := range n.Addrs {
		t.row(first(i, "addresses"), a.String()+"/p2p/"+n.ID)
	}
	for i, s := range reached(n) {
		t.row(first(i, "reached"), s)
	}
	t.row("relaying", relaying(n.Relaying))
	for i, s := range local(n.Local) {
		t.row(first(i, "local"), s)
	}
	for i, x := range n.Exposed {
		t.row(first(i, "exposed"), fmt.Sprintf("%s at %s%s%s", x.Service, behind(x), forWhom(x), doing(x.Down, x.Counts)))
	}
	for i, f := range n.Forwards {
		t.row(first(i, "forwards"), fmt.Sprintf("%s to %s%s%s", f.Listen, f.Target, manner(f), doing(f.Down, f.Counts)))
	}
	for i, p := range n.Proxies {
		t.row(first(i, "proxies"), fmt.Sprintf("%s%s%s", p.Listen, alsoOthers(p), doing(p.Down, p.Counts)))
	}
	for i, s := range streams(n.Streams, time.Now()) {
		t.row(first(i, "streams"), s)
	}
	return t.flush()
}

// reached tells, a line each, how members elsewhere come to the node.
func reached(n control.Node) (lines []string) {
	if n.Reachable == "yes" {
		lines = append(lines, "from the Internet")
	}
	if len(n.Relays) > 0 {
		lines = append(lines, "through "+peerNames(n.Relays))
	}
	return lines
}

func peerNames(peers []control.Peer) string {
	names := make([]string, len(peers))
	for i, p := range peers {
		names[i] = cmp.Or(p.Name, p.ID)
	}
	return strings.Join(names, ", ")
}

// relaying tells what a node carries for others.
func relaying(r control.Relaying) string {
	if r.Off {
		return "nothing for others"
	}
	return byteCount(r.Bytes) + " for others"
}

// manner tells how a forward dials, if not as all do.
func manner(f control.Forward) (s string) {
	if f.DirectOnly {
		s = ", through no relay"
	}
	if f.Plain {
		s += ", plain"
	}
	if f.Spread {
		s += ", to all in turn"
	}
	return s
}

// local tells, a line each, where members on this machine are met and what is wrong
// there.
func local(l control.Local) (lines []string) {
	switch {
	case l.Dir != "":
		lines = append(lines, l.Dir)
		if l.Error != "" {
			lines = append(lines, "out of order: "+l.Error)
		}
	case l.Error != "":
		lines = append(lines, "none: "+l.Error)
	}
	if l.Remade > 0 {
		lines = append(lines, fmt.Sprintf("its socket was removed, and made again, %s", times(l.Remade)))
	}
	return lines
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// forWhom tells whom a service is for if not for everyone.
func forWhom(x control.Exposed) string {
	if len(x.Deny) == 0 && len(x.Allow) == 1 && x.Allow[0].Rule == "everyone" {
		return ""
	}
	return ` for some, see "p2pnode access"`
}

func first(i int, label string) string {
	if i == 0 {
		return label
	}
	return ""
}

// doing tells why something is down, or what went through it.
func doing(down string, c control.Counts) string {
	if down != "" {
		return ": down, and tried again: " + down
	}
	return traffic(c)
}

func traffic(c control.Counts) string {
	s := fmt.Sprintf(": %d open of %d, %s out, %s in", c.Open, c.Total, byteCount(c.Sent), byteCount(c.Received))
	if c.Failed > 0 {
		s += fmt.Sprintf(", %d failed", c.Failed)
	}
	if c.Error != "" {
		s += ", last: " + c.Error
	}
	return s
}

// byteCount writes a count with a unit that keeps it short.
func byteCount(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for v >= unit && i < 4 {
		v, i = v/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[i])
}
