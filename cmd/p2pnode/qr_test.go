package main

import (
	"bytes"
	"strings"
	"testing"

	"rsc.io/qr"
)

// What is drawn has the modules of the code, dark ones left out, within a margin
// of light ones.
func TestQR(t *testing.T) {
	for _, chars := range []int{1, 300, 700, 4296} {
		text := strings.Repeat("p2pnode1", chars/8+1)[:chars]
		var out bytes.Buffer
		if err := writeQR(&out, text); err != nil {
			t.Fatal(err)
		}
		code, err := qr.Encode(strings.ToUpper(text), qr.L)
		if err != nil {
			t.Fatal(err)
		}
		got := modules(out.String())
		side := code.Size + 2*quietZone
		if len(got) != side+side%2 {
			t.Fatalf("writeQR of %d characters draws %d rows, want %d", chars, len(got), side)
		}
		for y := range side {
			if len(got[y]) != side {
				t.Fatalf("row %d has %d modules, want %d", y, len(got[y]), side)
			}
			for x, dark := range got[y] {
				if dark != code.Black(x-quietZone, y-quietZone) {
					t.Fatalf("the module at %d, %d of %d characters is dark: %v, want not", x, y, chars, dark)
				}
			}
		}
	}
}

// modules reads what writeQR draws: whether each module is dark.
func modules(text string) (rows [][]bool) {
	for line := range strings.Lines(text) {
		var top, bottom []bool
		for _, r := range strings.TrimSuffix(line, "\n") {
			top = append(top, r == ' ' || r == '▄')
			bottom = append(bottom, r == ' ' || r == '▀')
		}
		rows = append(rows, top, bottom)
	}
	return rows
}

// Upper case takes the alphabet of a code that is a quarter smaller or more.
func TestQRIsSmall(t *testing.T) {
	invite := "p2pnode1" + strings.Repeat("abcdefghijklmnopqrstuvwxyz234567", 20)
	var out bytes.Buffer
	if err := writeQR(&out, invite); err != nil {
		t.Fatal(err)
	}
	plain, err := qr.Encode(invite, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(modules(out.String())) - 2*quietZone; got*got*4 > plain.Size*plain.Size*3 {
		t.Errorf("writeQR draws %d modules a side, and lower case would take %d", got, plain.Size)
	}
}

func TestQRThatIsTooLong(t *testing.T) {
	err := writeQR(new(bytes.Buffer), strings.Repeat("A", 4297))
	if err == nil || strings.Contains(err.Error(), "AAAA") {
		t.Errorf("writeQR = %v, want an error without the text", err)
	}
}
