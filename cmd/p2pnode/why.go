package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/spf13/cobra"
)

// whyCommand tells why a member is reached as it is, or not.
func whyCommand(e *env) *cobra.Command {
	var noTry bool
	cmd := &cobra.Command{
		Use:   "why MEMBER",
		Short: "Tell why a member is reached by the path it is, or not at all",
		Long: `Tell why a member is reached by the path it is, or not at all: each address of it,
from where that is known and what came of it, the NATs at both ends, and what would
help. Before that the member is tried again, for at most 6 seconds.`,
		Example: `  p2pnode why alice
  p2pnode why alice --no-try --json`,
		Args:              exactArgs(1),
		ValidArgsFunction: e.completeMember,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withNode(func(c *control.Client) error { return e.why(cmd.Context(), c, args[0], !noTry) })
		},
	}
	addNoTry(cmd, &noTry)
	return cmd
}

func (e *env) why(ctx context.Context, c *control.Client, member string, try bool) error {
	w, err := c.Why(ctx, member, try)
	if err != nil {
		return err
	}
	w.Reason, w.Do = reason(w)
	if e.json {
		return e.print(w, "")
	}
	return writeWhy(e.stdout, w, time.Now())
}

func writeWhy(out io.Writer, w control.Why, now time.Time) error {
	t := newTable(out)
	t.row("member", fmt.Sprintf("%s, %s, %s", w.Member.Name, state(w.Member), w.Member.ID))
	t.row("path", path(w.Member.Path, w.Member.Relay))
	t.row("rtt", roundTrip(w.Member.RTT))
	for i, c := range w.Connections {
		t.row(first(i, "connections"), connectionText(c, now))
	}
	if matters := w.Member.Path == "" || w.Member.Path == "relay"; matters || w.Upgrade != nil {
		t.row("NAT here", nats(w.Here))
		t.row("NAT there", nats(w.There))
		t.row("punching", punching(w, now))
	}
	for i, c := range w.Changes[max(0, len(w.Changes)-maxChanges):] {
		t.row(first(i, "changes"), changeText(c))
	}
	t.row("why", w.Reason)
	if w.Do != "" {
		t.row("to do", w.Do)
	}
	if err := t.flush(); err != nil || len(w.Addrs) == 0 {
		return err
	}
	fmt.Fprintln(out)
	t = newTable(out)
	t.row("ADDRESS", "PATH", "KNOWN FROM", "TRIED", "VERDICT")
	for _, a := range w.Addrs {
		t.row(a.Addr, a.Path, orDash(sources[a.Source]), tried(a, now), verdict(a))
	}
	return t.flush()
}

// maxChanges is how many changes of the path are shown.
const maxChanges = 5

func connectionText(c control.Connection, now time.Time) string {
	who := "made by this node"
	if c.Inbound {
		who = "made by the other"
	}
	how := path(c.Path, c.Relay)
	if c.Relay == "" {
		how += ", " + c.Addr
	}
	return fmt.Sprintf("%s, %s, %s", how, who, ago(c.Since, now))
}

func changeText(c control.PathChange) string {
	if c.Relay != "" {
		c.Why, _, _ = strings.Cut(c.Why, " at ") // the relay tells where
	}
	return fmt.Sprintf("%s from %s to %s: %s", c.At.Local().Format(time.DateTime), cmp.Or(c.From, "none"), path(cmp.Or(c.To, "none"), c.Relay), c.Why)
}

// sources say from where an address is known.
var sources = map[string]string{
	"peer": "itself", "relay": "itself, by a relay", "lan": "the local network", "dht": "the DHT", "start": "an invite or before",
}

func tried(a control.Addr, now time.Time) string {
	if a.Tried == nil {
		return "-"
	}
	return ago(*a.Tried, now)
}

func ago(then, now time.Time) string {
	return max(now.Sub(then), 0).Round(time.Second).String() + " ago"
}

// verdict says what came of an address, and after what time.
func verdict(a control.Addr) string {
	text := verdicts[a.Verdict]
	if text == "" {
		text = a.Verdict
	}
	if a.Took > 0 {
		text += fmt.Sprintf(" (%.0f ms)", a.Took)
	}
	if a.Error != "" && detailed[a.Verdict] {
		text += ": " + a.Error
	}
	return text
}

var verdicts = map[string]string{
	"not-tried": "not tried", "connected": "connected", "refused": "refused: nobody listens", "timed-out": "no answer",
	"wrong-key": "wrong key", "not-admitted": "not let in", "no-route": "no route", "blocked": "blocked on this machine",
	"not-at-relay": "the relay does not have it",
}

// detailed are the verdicts that say less than their errors.
var detailed = map[string]bool{"wrong-key": true, "not-admitted": true, "failed": true, "not-at-relay": true}

// nats tells of both families, of what is known.
func nats(both [2]control.NAT) string {
	var out []string
	for i, name := range []string{"IPv4", "IPv6"} {
		n := both[i]
		switch {
		case n.UDP == "no":
			out = append(out, name+": UDP does not get out")
		case n.Mapping != "unknown":
			out = append(out, fmt.Sprintf("%s: %s; %s", name, mappingWords(n.Mapping), filteringWords(n.Filtering)))
		}
	}
	if len(out) == 0 {
		return "not known"
	}
	return strings.Join(out, "; ")
}

// punching tells whether a hole can be punched, and what was seen.
func punching(w control.Why, now time.Time) string {
	can := map[string]string{"yes": "it can be done between these two", "no": "it can't be done between these two"}[w.Punchable]
	text := cmp.Or(can, "whether it can be done is not known")
	if w.Upgrade == nil {
		return text + "; not tried"
	}
	got := "no direct path came of it"
	if p := w.Upgrade.Path; p != "relay" && p != "unknown" {
		got = "the path was " + p + " afterwards"
	}
	return fmt.Sprintf("%s; tried %s, last %s: %s", text, times(w.Upgrade.Tries), ago(w.Upgrade.At, now), got)
}

// reason says in a sentence why a member is reached as it is, and what to do if that
// could be better.
func reason(w control.Why) (why, do string) {
	name := w.Member.Name
	switch {
	case w.Member.Self:
		return "this is the node itself", ""
	case w.Member.Path == "unix":
		return name + " is on this machine, and is met by a socket: nothing is shorter", ""
	case w.Member.Path == "lan":
		return name + " is reached at a private address, so both are in one network", ""
	case w.Member.Path == "direct":
		return name + " is reached at a public address, with nobody in between", ""
	case w.Member.Path == "relay":
		return whyRelayed(w)
	}
	return whyNot(w)
}

func whyRelayed(w control.Why) (why, do string) {
	through := w.Member.Name + " is reached through " + cmp.Or(w.Member.Relay, "a relay")
	switch {
	case w.Upgrade == nil:
		return through + "; no better path was looked for yet", "ask again without --no-try"
	case blocked(w.Here):
		do = letUDPOut + " here"
	case blocked(w.There):
		do = letUDPOut + " there"
	case w.Punchable == "no":
		do = "turn on UPnP, NAT-PMP or PCP at the router of one of the two, or forward a UDP port to its node there"
	default:
		do = `it is tried again while it is in use; "p2pnode ping ` + w.Member.Name + ` --until-direct" waits for it`
	}
	return through + ": " + w.Upgrade.Reason, do
}

func blocked(both [2]control.NAT) bool { return both[0].UDP == "no" && both[1].UDP != "yes" }

// whyNot is for a member that there is no connection to. The verdict decides that
// tells most.
func whyNot(w control.Why) (why, do string) {
	name, counts := w.Member.Name, map[string]int{}
	for _, a := range w.Addrs {
		counts[a.Verdict]++
	}
	none := "there is no connection to " + name + ": "
	switch {
	case len(w.Addrs) == 0:
		return none + "no address of it is known", "see that it is up, and that it has reached any other member"
	case len(w.Addrs) == counts["not-tried"]:
		return none + "none was made", "ask again without --no-try"
	case counts["not-admitted"] > 0:
		return none + "one of the two does not let the other in", `"p2pnode whois ` + name + `" tells until when it is a member; look at the clocks of both`
	case counts["wrong-key"] > 0:
		return none + "another node is where it was", "see that it is up; it tells its new addresses to whoever it reaches"
	case counts["blocked"] > 0:
		return none + "this machine does not let the node out", "look at this machine's firewall"
	case counts["refused"] > 0:
		return none + "its machine answers, and no node listens there", `start it there with "p2pnode up"`
	case counts["timed-out"] > 0:
		return none + "nobody answers at any of its addresses", "see that it is up; if it is, a firewall or a NAT is in between, and a member that both can connect to would relay"
	case counts["no-route"] > 0:
		return none + "this machine has no way to any of its addresses", "look at this machine's network"
	case counts["not-at-relay"] > 0:
		return none + "it is not at the relay where it was", "see that it is up"
	}
	return none + "no address of it worked", "see that it is up"
}
