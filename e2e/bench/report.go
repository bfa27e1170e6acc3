package main

import (
	"encoding/json"
	"os"
	"slices"
	"time"
)

// reportVersion goes up when a reader of the JSON file must change.
const reportVersion = 1

// bases are the ways that others are compared with.
var bases = []string{"unix", "splice", "tls", "ssh", "libp2p"}

// A report is all that a run found, as it stands in the JSON file.
type report struct {
	Version int       `json:"version"`
	Date    time.Time `json:"date"`
	Machine machine   `json:"machine"`
	Plan    plan      `json:"parameters"`
	Ways    []*result `json:"ways"`
}

// A result is what was found of one way. A round that was not completed is not
// in it.
type result struct {
	Name    string                `json:"name"`
	Skipped string                `json:"skipped,omitempty"` // why it can't be had here
	Err     string                `json:"error,omitempty"`   // what went wrong with it
	Paths   []string              `json:"paths,omitempty"`   // by which its streams went, each once
	Median  figures               `json:"median,omitempty"`
	Rounds  []figures             `json:"rounds,omitempty"`
	Ratios  map[string]comparison `json:"ratios,omitempty"` // by the name of the other way
}

// A comparison is a way's ratio to another.
type comparison struct {
	Median figures   `json:"median"`
	Rounds []figures `json:"rounds"`
}

// summarize fills in medians and ratios from the rounds.
func (r *report) summarize() {
	for _, w := range r.Ways {
		if len(w.Rounds) == 0 {
			continue
		}
		w.Median = medians(w.Rounds)
		w.Ratios = make(map[string]comparison)
		for _, base := range bases {
			if rs := ratios(w.Rounds, r.rounds(base)); len(rs) > 0 {
				w.Ratios[base] = comparison{Median: medians(rs), Rounds: rs}
			}
		}
	}
}

// rounds returns the rounds of the way so named, none if it has none.
func (r *report) rounds(name string) []figures {
	i := slices.IndexFunc(r.Ways, func(w *result) bool { return w.Name == name })
	if i < 0 {
		return nil
	}
	return r.Ways[i].Rounds
}

// measured reports whether there is any figure.
func (r *report) measured() bool {
	return slices.ContainsFunc(r.Ways, func(w *result) bool { return len(w.Rounds) > 0 })
}

func (r *report) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
