package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"rsc.io/qr"
)

// quietZone is the margin that a QR code needs to be found, in modules. Four are
// asked for; with three the code of a usual invite fits a line of 80 characters.
const quietZone = 3

// writeQR draws an invite for a camera. Upper case makes no difference to an
// invite, and takes a smaller code.
func writeQR(w io.Writer, invite string) error {
	code, err := qr.Encode(strings.ToUpper(invite), qr.L)
	if err != nil {
		return fmt.Errorf("draw the invite: %w", err)
	}
	before, after := "", ""
	if isTerminal(w) {
		before, after = "\x1b[97;40m", "\x1b[0m" // white on black, whatever its colours are
	}
	out := bufio.NewWriter(w)
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		fmt.Fprintf(out, "%s%s%s\n", before, qrLine(code, y), after)
	}
	return out.Flush()
}

// qrLine draws two rows of modules in one line of text. The light ones are
// drawn: most terminals are dark.
func qrLine(code *qr.Code, y int) string {
	var b strings.Builder
	for x := -quietZone; x < code.Size+quietZone; x++ {
		// What is outside the code is light.
		top, bottom := !code.Black(x, y), !code.Black(x, y+1)
		switch {
		case top && bottom:
			b.WriteRune('█')
		case top:
			b.WriteRune('▀')
		case bottom:
			b.WriteRune('▄')
		default:
			b.WriteRune(' ')
		}
	}
	return b.String()
}
