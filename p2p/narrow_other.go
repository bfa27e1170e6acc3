//go:build !unix

package p2p

// setMaxSegment does nothing where the system has no such option.
func setMaxSegment(uintptr, int) error { return nil }
