package main

import (
	"encoding/binary"
	"io"
)

// The first byte of a connection says what it is for.
const (
	bulkMark = 'b' // count what comes, and answer with the count as 8 bytes, big endian
	echoMark = 'e' // send back what comes
)

// bulkBuffer is the size of the writes and reads of a bulk transfer.
const bulkBuffer = 256 << 10

// serverRole is what lies at the far end of each way. Its arguments are the name
// of the way's ends and a folder for its files.
func serverRole(s self, args []string) error {
	e, err := endsNamed(args[0])
	if err != nil {
		return err
	}
	return e.serve(s, args[1], func(c conn) { _ = answer(c) })
}

func answer(conn io.ReadWriter) error {
	// Small, because every new connection pays for it.
	first := make([]byte, 1<<10)
	n, err := conn.Read(first)
	if err != nil {
		return err
	}
	if first[0] == bulkMark {
		return count(conn, uint64(n))
	}
	return echo(conn, first, n)
}

// count reads to the end and answers with the number of bytes, n included.
func count(conn io.ReadWriter, n uint64) error {
	buf := make([]byte, bulkBuffer)
	for {
		m, err := conn.Read(buf)
		n += uint64(m)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err := conn.Write(binary.BigEndian.AppendUint64(nil, n))
	return err
}

// echo sends back the n bytes in buf and all that follow. (io.Copy would splice
// the connection into itself, which is slower for a few bytes.)
func echo(conn io.ReadWriter, buf []byte, n int) error {
	for {
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
		var err error
		if n, err = conn.Read(buf); err != nil {
			return err
		}
	}
}
