package main

import (
	"os"
	"runtime"
	"strings"
)

// A machine is what the figures depend on.
type machine struct {
	System     string     `json:"system"`
	Kernel     string     `json:"kernel"`
	CPU        string     `json:"cpu"`
	Cores      int        `json:"cores"`
	Go         string     `json:"go"`
	Congestion congestion `json:"congestion_control"`
}

func thisMachine(c congestion) machine {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	return machine{
		System:     runtime.GOOS + "/" + runtime.GOARCH,
		Kernel:     orUnknown(strings.TrimSpace(string(kernel))),
		CPU:        orUnknown(cpuModel(string(cpus))),
		Cores:      runtime.NumCPU(),
		Go:         runtime.Version(),
		Congestion: c,
	}
}

// cpuModel returns the first model name in the text of a /proc/cpuinfo.
func cpuModel(text string) string {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
