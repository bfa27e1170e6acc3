package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"golang.org/x/term"
)

// watchEvery is how often status --watch looks again.
const watchEvery = time.Second

// A scene is what status --watch shows at a time.
type scene struct {
	at      time.Time
	node    control.Node
	members []control.Member
}

func look(ctx context.Context, c *control.Client) (s scene, err error) {
	if s.node, err = c.Status(ctx); err != nil {
		return s, err
	}
	s.members, err = c.Members(ctx)
	s.at = time.Now()
	return s, err
}

// watch shows the node's state each time that there is a tick, until ctx ends. On a
// terminal it draws over what it drew before.
func watch(ctx context.Context, e *env, c *control.Client, ticks <-chan time.Time) error {
	var before scene
	for {
		now, err := look(ctx, c)
		switch {
		case ctx.Err() != nil:
			return nil // it was told to end
		case err != nil:
			return err
		case e.json:
			err = e.print(now.node, "")
		default:
			err = draw(e, frame(before, now))
		}
		if err != nil {
			return err
		}
		before = now
		select {
		case <-ticks:
		case <-ctx.Done():
			return nil
		}
	}
}

// A line is one of a frame. Its style adds nothing to what the text says.
type line struct{ text, style string }

const (
	bold  = "\x1b[1m"
	faint = "\x1b[2m"
	plain = "\x1b[0m"
)

// frame returns the tables of a scene: members, what goes through services, forwards and
// proxies, and streams.
func frame(before, now scene) []line {
	n := now.node
	out := []line{{fmt.Sprintf("%s at %s: members up %d of %d others, open streams %d", n.Name, now.at.Format(time.TimeOnly), n.Up, n.Members, len(n.Streams)), bold}, {}}
	streams := map[string]int{}
	for _, s := range n.Streams {
		streams[s.Member]++
	}
	out = append(out, tableLines(func(t table) {
		t.row("MEMBER", "STATE", "PATH", "ROUND TRIP", "STREAMS")
		for _, m := range now.members {
			t.row(m.Name, state(m), path(m.Path, m.Relay), roundTrip(m.RTT), fmt.Sprint(streams[m.Name]))
		}
	})...)
	head := len(out) - len(now.members)
	for i, m := range now.members {
		if !m.Up {
			out[head+i].style = faint
		}
	}
	if len(n.Exposed)+len(n.Forwards)+len(n.Proxies) > 0 {
		out = append(out, line{})
		out = append(out, tableLines(func(t table) { traffics(t, before, now) })...)
	}
	if lines := streamLines(now); len(lines) > 0 {
		out = append(out, line{}, line{"STREAMS", bold})
		out = append(out, lines...)
	}
	return out
}

// A flow is what goes through a service, a forward or a proxy.
type flow struct {
	kind, name, target string
	counts             control.Counts
}

func flows(n control.Node) (out []flow) {
	for _, x := range n.Exposed {
		out = append(out, flow{"exposed", x.Service, behind(x), x.Counts})
	}
	for _, f := range n.Forwards {
		out = append(out, flow{"forward", f.Listen, f.Target, f.Counts})
	}
	for _, p := range n.Proxies {
		target := "the mesh"
		if p.Others {
			target = "any host"
		}
		out = append(out, flow{"proxy", p.Listen, target, p.Counts})
	}
	return out
}

// traffics writes a row for each of them. A rate takes a scene before.
func traffics(t table, before, now scene) {
	was := map[string]control.Counts{}
	for _, x := range flows(before.node) {
		was[x.kind+" "+x.name] = x.counts
	}
	took := now.at.Sub(before.at).Seconds()
	t.row("KIND", "NAME", "TARGET", "OPEN", "OUT", "IN", "RATE")
	for _, x := range flows(now.node) {
		rate, c := "-", x.counts
		if old, ok := was[x.kind+" "+x.name]; ok && took > 0 && c.Sent+c.Received >= old.Sent+old.Received {
			rate = byteCount(uint64(float64(c.Sent+c.Received-old.Sent-old.Received)/took)) + "/s"
		}
		t.row(x.kind, x.name, x.target, fmt.Sprintf("%d of %d", c.Open, c.Total), byteCount(c.Sent), byteCount(c.Received), rate)
	}
}

func streamLines(s scene) (out []line) {
	for _, text := range streams(s.node.Streams, s.at) {
		out = append(out, line{text: text})
	}
	return out
}

// tableLines returns what is written to a table, its heading in bold.
func tableLines(write func(table)) (out []line) {
	var b bytes.Buffer
	t := newTable(&b)
	write(t)
	_ = t.flush() // a buffer takes all
	for text := range strings.Lines(b.String()) {
		out = append(out, line{text: strings.TrimRight(text, " \n")})
	}
	out[0].style = bold
	return out
}

// draw shows a frame: on a terminal in the place of the last, elsewhere below it.
func draw(e *env, lines []line) error {
	var b bytes.Buffer
	width, height, ok := screen(e)
	if !ok {
		for _, l := range lines {
			fmt.Fprintln(&b, l.text)
		}
		fmt.Fprintln(&b)
	} else {
		paint(&b, lines, width, height, e.getenv("NO_COLOR") == "")
	}
	_, err := e.stdout.Write(b.Bytes())
	return err
}

// paint writes a frame as a terminal takes it: what does not fit is cut off, and told.
func paint(w io.Writer, lines []line, width, height int, styled bool) {
	if more := len(lines) - (height - 1); more > 0 && height > 2 {
		lines = append(lines[:height-2:height-2], line{text: fmt.Sprintf("and %d lines more", more+1)})
	}
	fmt.Fprint(w, "\x1b[H") // to the upper left
	for _, l := range lines {
		text := l.text
		if utf8.RuneCountInString(text) > width {
			text = string([]rune(text)[:width])
		}
		if styled && l.style != "" {
			text = l.style + text + plain
		}
		fmt.Fprint(w, text, "\x1b[K\n") // and nothing of the last frame behind it
	}
	fmt.Fprint(w, "\x1b[J")
}

// screen returns the size of the terminal that standard output is, if it is one that
// can be drawn on.
func screen(e *env) (width, height int, ok bool) {
	f, isFile := e.stdout.(*os.File)
	if !isFile || e.getenv("TERM") == "dumb" {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	return width, height, err == nil && width > 0 && height > 0
}
