//go:build !linux

package netwatch

func open() (source, error) { return newPoll(), nil }
