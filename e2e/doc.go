// Package e2e holds what crosses processes and machines: tests of the p2pnode
// command as its users run it, with real programs at both ends, and tests of the
// repository itself, such as that imports go one way.
//
// What it takes to do so is below it: e2e/lab makes networks to run programs in,
// with their NATs and faults, e2e/bench compares a forward with what else there
// is, and e2e/measure takes the other figures of docs/performance.md.
package e2e
