package overlay

import "errors"

// A Kind is what goes through the streams of a service. Who listens says which, and
// who dials must mean the same.
type Kind uint8

const (
	// KindStream is bytes, one after the other.
	KindStream Kind = iota

	// KindDatagram is datagrams, with their length before each. Package forward
	// reads and writes them.
	KindDatagram
)

// String returns "stream" or "datagram".
func (k Kind) String() string {
	switch k {
	case KindStream:
		return "stream"
	case KindDatagram:
		return "datagram"
	}
	return "unknown"
}

// ErrKind says that the service is of another kind than the dialer took it for.
var ErrKind = errors.New("the service is of another kind")

// kindOf returns the kind that package net's name of a network stands for.
func kindOf(network string) Kind {
	switch network {
	case "udp", "udp4", "udp6":
		return KindDatagram
	}
	return KindStream
}
