package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

const (
	congestionFile = "/proc/sys/net/ipv4/tcp_congestion_control"
	wanted         = "cubic"
)

// A congestion says which congestion control new TCP sockets get.
type congestion struct {
	Used   string `json:"used"`
	Before string `json:"before"`         // what is set outside of the run
	Note   string `json:"note,omitempty"` // why it is not CUBIC
}

func (c congestion) String() string {
	switch {
	case c.Note != "":
		return fmt.Sprintf("%s (%s)", c.Used, c.Note)
	case c.Used != c.Before:
		return fmt.Sprintf("%s (for the run; %s outside of it)", c.Used, c.Before)
	}
	return c.Used
}

// useCubic sets the congestion control in file to CUBIC where it may. The
// function returned restores what was, and must be called.
func useCubic(file string) (congestion, func() error) {
	nothing := func() error { return nil }
	text, err := os.ReadFile(file)
	if err != nil {
		return congestion{Used: "unknown", Before: "unknown", Note: "the system does not show it"}, nothing
	}
	before := strings.TrimSpace(string(text))
	if before == wanted {
		return congestion{Used: wanted, Before: wanted}, nothing
	}
	if err := writeSetting(file, wanted); err != nil {
		return congestion{Used: before, Before: before, Note: "not cubic: " + reason(err)}, nothing
	}
	return congestion{Used: wanted, Before: before}, func() error { return writeSetting(file, before) }
}

// writeSetting neither makes nor truncates a file, which a kernel setting is not.
func writeSetting(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n")
	return errors.Join(err, f.Close())
}

func reason(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "only root may set it"
	}
	return err.Error()
}
