package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
)

// maxStreamLines bounds how many streams are told of one by one.
const maxStreamLines = 20

// streams tells of open streams, a line each.
func streams(all []control.Stream, now time.Time) (lines []string) {
	for _, s := range all[:min(len(all), maxStreamLines)] {
		lines = append(lines, streamLine(s, now))
	}
	if more := len(all) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more, see --json", more))
	}
	return lines
}

func streamLine(s control.Stream, now time.Time) string {
	line := fmt.Sprintf("%s/%s", s.Member, s.Service)
	if !s.Dialed {
		line = fmt.Sprintf("%s from %s", s.Service, s.Member)
	}
	said := []string{line + " by " + s.Path, "for " + now.Sub(s.Since).Round(time.Second).String()}
	for _, n := range []struct {
		count     int
		one, many string
	}{{s.Moves, "move", "moves"}, {s.Resumes, "resume", "resumes"}, {s.Stalls, "stall", "stalls"}} {
		switch n.count {
		case 0:
		case 1:
			said = append(said, "1 "+n.one)
		default:
			said = append(said, fmt.Sprintf("%d %s", n.count, n.many))
		}
	}
	if s.Plain && s.Path != "unix" && s.Path != "self" { // where all are
		said = append(said, "plain")
	}
	if s.Waiting {
		said = append(said, "waiting for a connection")
	}
	return strings.Join(said, ", ")
}
