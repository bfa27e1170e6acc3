package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A log is added to, and put aside when it is long; no line is torn.
func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), logName)
	for range 2 { // the second time there is one already
		l, err := openLog(path, 100)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if _, err := l.Write([]byte(strings.Repeat("x", 29) + "\n")); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{path, path + oldLog} {
		data, err := os.ReadFile(name)
		if err != nil || len(data) == 0 || len(data) > 100 || len(data)%30 != 0 {
			t.Errorf("%s has %d bytes, %v, want whole lines and 100 at most", filepath.Base(name), len(data), err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("Stat = %v, %v, want the mode 0600", info, err)
		}
	}
	l, err := openLog(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if n, err := l.Write(bytes.Repeat([]byte("y"), 1000)); n != 1000 || err != nil {
		t.Errorf("Write of a long line = %d, %v", n, err)
	}
}
