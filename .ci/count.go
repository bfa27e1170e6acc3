// Count reads the output of go test -json, shows what failed and what was
// skipped, and counts.
//
//	go test -json ./... 2>&1 | count FILE PATTERN
//
// FILE gets the numbers passed, failed and skipped. A test with subtests is not
// counted, they are; a package that fails outside of any test counts as one. If
// CI is "true", a skipped test whose reason matches PATTERN has failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"regexp"
	"strings"
)

// An event is a line of the output.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// A run is what is known of a package or a test of it.
type run struct {
	output   strings.Builder // until it ends
	parent   bool            // it has subtests, or tests
	failures int             // of these
}

type counter struct {
	forbidden *regexp.Regexp // reasons not to be skipped for; nil if there are none
	runs      map[[2]string]*run

	passed, failed, skipped int
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: go test -json ./... 2>&1 | count FILE PATTERN")
	}
	c := counter{runs: map[[2]string]*run{}}
	if os.Getenv("CI") == "true" {
		c.forbidden = regexp.MustCompile(`(?i)` + os.Args[2])
	}
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // there is no line without an end
		}
		var e event
		if json.Unmarshal([]byte(line), &e) != nil {
			fmt.Print(line) // of the go command itself
			continue
		}
		c.take(e)
	}
	counts := fmt.Sprintln(c.passed, c.failed, c.skipped)
	if err := os.WriteFile(os.Args[1], []byte(counts), 0o600); err != nil {
		log.Fatal(err)
	}
}

func (c *counter) take(e event) {
	r := c.run(e.Package, e.Test)
	switch e.Action {
	case "output":
		r.output.WriteString(e.Output)
	case "build-output":
		fmt.Print(e.Output)
	case "run":
		c.run(e.Package, above(e.Test)).parent = true
	case "pass", "fail", "skip":
		c.end(e, r)
		delete(c.runs, [2]string{e.Package, e.Test})
	}
}

func (c *counter) run(pkg, test string) *run {
	key := [2]string{pkg, test}
	if c.runs[key] == nil {
		c.runs[key] = new(run)
	}
	return c.runs[key]
}

// above returns the test that a subtest is of, or for a test the empty name of
// the package.
func above(test string) string {
	return test[:max(0, strings.LastIndex(test, "/"))]
}

// end counts a test or package that has ended.
func (c *counter) end(e event, r *run) {
	failed := e.Action == "fail"
	if e.Test == "" && failed {
		c.endRunning(e.Package)
	}
	if e.Action == "skip" && e.Test != "" {
		reason := reasonOf(r.output.String())
		failed = c.forbidden != nil && c.forbidden.MatchString(reason)
		fmt.Printf("skipped: %s %s: %s\n", e.Package, e.Test, reason)
	}
	switch {
	case failed:
		if e.Test != "" || r.failures == 0 { // a package without failed tests has its own reason
			fmt.Printf("FAILED: %s %s\n%s", e.Package, e.Test, r.output.String())
		}
		if r.failures == 0 {
			c.failed++
		}
	case r.parent || e.Test == "":
	case e.Action == "skip":
		c.skipped++
	default:
		c.passed++
	}
	if failed && e.Test != "" {
		c.run(e.Package, above(e.Test)).failures++
	}
	if e.Test == "" && e.Action != "skip" { // those are without tests
		fmt.Printf("%s %s %.1f s\n", e.Action, e.Package, e.Elapsed)
	}
}

// endRunning counts the tests as failed that a package ended with, by a panic or
// for lack of time.
func (c *counter) endRunning(pkg string) {
	for key := range c.runs {
		if key[0] == pkg && key[1] != "" && !c.runs[key].parent {
			c.take(event{Action: "fail", Package: pkg, Test: key[1]})
			c.run(pkg, "").failures++
		}
	}
}

// reasonOf returns what a test said before it was skipped.
func reasonOf(output string) string {
	var reason []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			reason = append(reason, line)
		}
	}
	return strings.Join(reason, " ")
}
