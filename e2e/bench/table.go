package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// writeTable writes the report for people.
func (r *report) writeTable(w io.Writer) error {
	var b bytes.Buffer
	m := r.Machine
	fmt.Fprintf(&b, "%s, %s %s, %d cores %s, %s\n", r.Date.Format(time.DateTime), m.System, m.Kernel, m.Cores, m.CPU, m.Go)
	fmt.Fprintf(&b, "TCP congestion control %s; medians of %d rounds\n\n", m.Congestion, r.Plan.Rounds)
	writeRows(&b, r.Ways, func(w *result) string { return w.row() })
	for _, base := range bases {
		if len(r.rounds(base)) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\nratio to %s, median of the rounds' ratios\n\n", base)
		writeRows(&b, r.Ways, func(w *result) string { return w.Ratios[base].Median.row() })
	}
	_, err := b.WriteTo(w)
	return err
}

// writeRows writes a head and a row for each way.
func writeRows(b *bytes.Buffer, ways []*result, row func(*result) string) {
	width := len("way")
	for _, w := range ways {
		width = max(width, len(w.Name))
	}
	fmt.Fprintf(b, "%-*s", width, "way")
	for _, m := range measures {
		fmt.Fprintf(b, "  %s", m.title)
	}
	b.WriteByte('\n')
	for _, w := range ways {
		fmt.Fprintf(b, "%-*s%s\n", width, w.Name, row(w))
	}
}

// row returns what stands behind the way's name in the first part.
func (w *result) row() string {
	switch {
	case w.Skipped != "":
		return "  skipped: " + oneLine(w.Skipped)
	case w.Err != "":
		return "  error: " + oneLine(w.Err)
	}
	return w.Median.row()
}

// row returns a cell for each measure.
func (f figures) row() string {
	var b strings.Builder
	for _, m := range measures {
		v, ok := f[m.key]
		fmt.Fprintf(&b, "  %*s", utf8.RuneCountInString(m.title), short(v, ok))
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
