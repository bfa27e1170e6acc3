package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestWriteTable(t *testing.T) {
	r := &report{
		Date:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Machine: machine{"linux/amd64", "6.1", "A CPU", 2, "go1.26", congestion{Used: "cubic", Before: "cubic"}},
		Plan:    plan{Rounds: 2},
		Ways: []*result{
			{Name: "none", Rounds: []figures{
				{"gbit_s": 40, "cpu_s_per_gib": 0.2, "rtt_p50_us": 10, "rtt_p99_us": 100, "open_p50_us": 80, "conns_s": 8000, "conns_s_64": 20000},
				{"gbit_s": 60, "cpu_s_per_gib": 0.3, "rtt_p50_us": 20, "rtt_p99_us": 300, "open_p50_us": 90, "conns_s": 6000, "conns_s_64": 20000},
			}},
			{Name: "splice", Paths: []string{"unix"}, Rounds: []figures{
				{"gbit_s": 20, "rtt_p50_us": 40, "rtt_p99_us": 200, "conns_s": 4000, "conns_s_64": 10000},
				{"gbit_s": 40, "rtt_p50_us": 40, "rtt_p99_us": 200, "conns_s": 4000, "conns_s_64": 10000},
			}},
			{Name: "ssh", Skipped: "sshd is not installed"},
			{Name: "tls", Err: "bulk: the server got 1 bytes\nof 2"},
		},
	}
	r.summarize()
	var b bytes.Buffer
	checkErr(t, r.writeTable(&b), "")
	want := `2026-01-02 03:04:05, linux/amd64 6.1, 2 cores A CPU, go1.26
TCP congestion control cubic; medians of 2 rounds

way     path  Gbit/s  CPU-s/GiB  RTT p50 µs  RTT p99 µs  open p50 µs  conn/s  conn/s, 64
none    -       50.0       0.25        15.0         200         85.0    7000       20000
splice  unix    30.0          -        40.0         200            -    4000       10000
ssh     -     skipped: sshd is not installed
tls     -     error: bulk: the server got 1 bytes of 2

ratio to splice, median of the rounds' ratios

way     Gbit/s  CPU-s/GiB  RTT p50 µs  RTT p99 µs  open p50 µs  conn/s  conn/s, 64
none      1.75          -        0.38        1.00            -    1.75        2.00
splice    1.00          -        1.00        1.00            -    1.00        1.00
ssh          -          -           -           -            -       -           -
tls          -          -           -           -            -       -           -
`
	if got := b.String(); got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}
}

func TestLongReasonIsCut(t *testing.T) {
	got := oneLine(strings.Repeat("é ", maxReason))
	if n := len([]rune(got)); n != maxReason+1 || !strings.HasSuffix(got, "…") {
		t.Errorf("oneLine = %q of %d characters, want %d and …", got, n, maxReason)
	}
}

func TestWriteTableReportsTheWriter(t *testing.T) {
	err := (&report{}).writeTable(brokenWriter{})
	checkErr(t, err, "broken")
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken") }
