package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The kernel shows times in /proc in this unit, whatever its own clock is.
const ticksPerSecond = 100

// A procStat is what counts here of a /proc/PID/stat.
type procStat struct {
	parent int
	ticks  uint64 // user and system time of the process and of its children that ended
}

// parseStat reads the text of a /proc/PID/stat. See proc_pid_stat(5).
func parseStat(text string) (procStat, error) {
	// The second field is the command's name in parentheses, in which there may
	// be spaces and parentheses.
	i := strings.LastIndexByte(text, ')')
	if i < 0 {
		return procStat{}, fmt.Errorf("stat %q: no command name", text)
	}
	const third, ppid, utime, cstime = 3, 4, 14, 17
	fields := strings.Fields(text[i+1:])
	if len(fields) <= cstime-third {
		return procStat{}, fmt.Errorf("stat %q: too few fields", text)
	}
	parent, err := strconv.Atoi(fields[ppid-third])
	if err != nil {
		return procStat{}, fmt.Errorf("stat %q: parent: %w", text, err)
	}
	s := procStat{parent: parent}
	for _, field := range fields[utime-third : cstime-third+1] {
		ticks, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return procStat{}, fmt.Errorf("stat %q: time: %w", text, err)
		}
		s.ticks += ticks
	}
	return s, nil
}

// treeTicks sums the ticks of the roots and of all that descend from them.
func treeTicks(stats map[int]procStat, roots []int) (uint64, error) {
	children := make(map[int][]int)
	for pid, s := range stats {
		children[s.parent] = append(children[s.parent], pid)
	}
	var sum uint64
	seen := make(map[int]bool)
	for todo := roots; len(todo) > 0; {
		pid := todo[0]
		todo = append(todo[1:len(todo):len(todo)], children[pid]...)
		s, ok := stats[pid]
		if !ok {
			return 0, fmt.Errorf("process %d is gone", pid)
		}
		if !seen[pid] {
			sum += s.ticks
		}
		seen[pid] = true
	}
	return sum, nil
}

// cpuSeconds returns what the roots and all that descend from them have used of
// the CPU, as the file system mounted at proc shows it.
func cpuSeconds(proc string, roots []int) (float64, error) {
	files, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "stat"))
	if len(files) == 0 {
		return 0, errors.New("the system shows no processes in " + proc)
	}
	stats := make(map[int]procStat)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ended since
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return 0, err
		}
		if stats[pid], err = parseStat(string(text)); err != nil {
			return 0, err
		}
	}
	ticks, err := treeTicks(stats, roots)
	return float64(ticks) / ticksPerSecond, err
}
