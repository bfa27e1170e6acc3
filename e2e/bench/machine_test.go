package main

import "testing"

func TestCPUModel(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"first of two", "processor\t: 0\nmodel\t\t: 2\nmodel name\t: A: B\n\nmodel name\t: C\n", "A: B"},
		{"none", "processor\t: 0\nBogoMIPS\t: 50.00\n", ""},
		{"empty", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := cpuModel(tt.in); got != tt.want {
				t.Errorf("cpuModel(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}
