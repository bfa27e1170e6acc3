package daemon

import (
	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/p2p"
)

// maxStreams bounds how many streams are told of, so that an answer stays one that a
// command takes.
const maxStreams = 1000

func (d *Daemon) listStreams() []control.Stream {
	all := d.mesh.Streams()
	out := []control.Stream{}
	for _, s := range all[:min(len(all), maxStreams)] {
		out = append(out, streamView(s))
	}
	return out
}

func streamView(s overlay.StreamInfo) control.Stream {
	return control.Stream{
		Member: s.Member, Service: s.Service, Dialed: s.Dialed, Path: s.Path.String(), Plain: s.Plain, Since: s.Since, Waiting: s.Waiting,
		Moves: s.Moves, Resumes: s.Resumes, Stalls: s.Stalls, Replayed: s.Replayed, Held: s.Held,
	}
}

func totalsView(t p2p.StreamTotals) control.StreamTotals { return control.StreamTotals(t) }
