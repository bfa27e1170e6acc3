package main

// A measure is one of the columns of the table.
type measure struct {
	key   string // in JSON
	title string // in the table
}

var measures = []measure{
	{"gbit_s", "Gbit/s"},
	{"cpu_s_per_gib", "CPU-s/GiB"},
	{"rtt_p50_us", "RTT p50 µs"},
	{"rtt_p99_us", "RTT p99 µs"},
	{"open_p50_us", "open p50 µs"},
	{"conns_s", "conn/s"},
	{"conns_s_64", "conn/s, 64"},
}

// figures holds, by the key of the measure, what was measured. What was not, is
// not in it.
type figures map[string]float64

// medians returns, of each measure, the median over the rounds.
func medians(rounds []figures) figures {
	all := make(map[string][]float64)
	for _, round := range rounds {
		for key, v := range round {
			all[key] = append(all[key], v)
		}
	}
	m := make(figures)
	for key, vs := range all {
		m[key] = median(vs)
	}
	return m
}

// over returns f divided by base, of each measure that both have.
func (f figures) over(base figures) figures {
	r := make(figures)
	for key, v := range f {
		if b := base[key]; b != 0 {
			r[key] = v / b
		}
	}
	return r
}

// ratios returns, for each round that both went through, the ratio of a way to
// another.
func ratios(rounds, base []figures) []figures {
	var rs []figures
	for i := range min(len(rounds), len(base)) {
		rs = append(rs, rounds[i].over(base[i]))
	}
	return rs
}
