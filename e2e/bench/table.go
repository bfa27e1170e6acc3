package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// writeTable writes the report for people.
func (r *report) writeTable(w io.Writer) error {
	var b bytes.Buffer
	m := r.Machine
	fmt.Fprintf(&b, "%s, %s %s, %d cores %s, %s\n", r.Date.Format(time.DateTime), m.System, m.Kernel, m.Cores, m.CPU, m.Go)
	where := ""
	if r.Plan.Apart {
		where = ", client and server in two network namespaces"
	}
	fmt.Fprintf(&b, "TCP congestion control %s%s; medians of %d rounds\n\n", m.Congestion, where, r.Plan.Rounds)
	writeRows(&b, r.Ways, []label{wayLabel, pathLabel}, func(w *result) string { return w.row() })
	for _, base := range bases {
		if len(r.rounds(base)) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\nratio to %s, median of the rounds' ratios\n\n", base)
		writeRows(&b, r.Ways, []label{wayLabel}, func(w *result) string { return w.Ratios[base].Median.row() })
	}
	_, err := b.WriteTo(w)
	return err
}

// A label is a column of words, before the figures.
type label struct {
	title string
	of    func(*result) string
}

var (
	wayLabel  = label{"way", func(w *result) string { return w.Name }}
	pathLabel = label{"path", (*result).path}
)

// path returns the paths of the way's streams, "-" if it has none to tell.
func (w *result) path() string {
	if len(w.Paths) == 0 {
		return "-"
	}
	return strings.Join(w.Paths, ",")
}

// writeRows writes a head and a row for each way.
func writeRows(b *bytes.Buffer, ways []*result, labels []label, row func(*result) string) {
	rows := make([]string, 1+len(ways)) // the head first
	for _, l := range labels {
		cells := []string{l.title}
		for _, w := range ways {
			cells = append(cells, l.of(w))
		}
		width := len(slices.MaxFunc(cells, func(a, b string) int { return len(a) - len(b) }))
		for i, cell := range cells {
			rows[i] += fmt.Sprintf("%-*s  ", width, cell)
		}
	}
	for _, m := range measures {
		rows[0] += m.title + "  "
	}
	for i, w := range ways {
		rows[i+1] += row(w)
	}
	for _, text := range rows {
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
}

// row returns what stands behind the labels in the first part.
func (w *result) row() string {
	switch {
	case w.Skipped != "":
		return "skipped: " + oneLine(w.Skipped)
	case w.Err != "":
		return "error: " + oneLine(w.Err)
	}
	return w.Median.row()
}

// row returns a cell for each measure.
func (f figures) row() string {
	var b strings.Builder
	for _, m := range measures {
		v, ok := f[m.key]
		fmt.Fprintf(&b, "%*s  ", utf8.RuneCountInString(m.title), short(v, ok))
	}
	return b.String()
}

// short returns v with two to four digits, which is all that the rounds agree
// on.
func short(v float64, ok bool) string {
	switch {
	case !ok:
		return "-"
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// maxReason bounds what the table shows of a reason; the JSON file has it all.
const maxReason = 200

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxReason {
		return string(r[:maxReason]) + "…"
	}
	return s
}
