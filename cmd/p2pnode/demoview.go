package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// A demoView shows how far the demo is: a matrix that is drawn over itself on
// a terminal, and nothing elsewhere.
type demoView struct {
	w     io.Writer
	live  bool
	drawn int // lines on the screen
}

func newDemoView(w io.Writer) *demoView {
	return &demoView{w: w, live: isTerminal(w)}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (v *demoView) update(results []demoResult) {
	if !v.live {
		return
	}
	v.clear()
	text := demoMatrix(results)
	v.drawn = strings.Count(text, "\n")
	fmt.Fprint(v.w, text)
}

// end takes the view off the screen; the table says it all.
func (v *demoView) end() {
	if v.live {
		v.clear()
	}
}

func (v *demoView) clear() {
	if v.drawn > 0 {
		fmt.Fprintf(v.w, "\x1b[%dA\x1b[J", v.drawn)
		v.drawn = 0
	}
}

// demoMatrix draws who has sent to whom: rows send, columns receive.
func demoMatrix(results []demoResult) string {
	marks := map[string]string{}
	for _, r := range results {
		marks[r.From+r.To] = "ok"
		if !r.Verified {
			marks[r.From+r.To] = "!!"
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%8s", "")
	for _, to := range demoNames {
		fmt.Fprintf(&b, "%8s", to)
	}
	for _, from := range demoNames {
		fmt.Fprintf(&b, "\n%8s", from)
		for _, to := range demoNames {
			mark := marks[from+to]
			if mark == "" {
				mark = "."
			}
			if from == to {
				mark = ""
			}
			fmt.Fprintf(&b, "%8s", mark)
		}
	}
	b.WriteByte('\n')
	return b.String()
}
