package main

import (
	"io"
	"sync"
)

// A duplex is a connection of which each direction can end by itself.
type duplex interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// tie copies from a to b and from b to a until both have ended, and closes both.
// The end of one direction is passed on as such; a fault ends both.
func tie(a, b duplex) {
	var wg sync.WaitGroup
	wg.Go(func() { pour(a, b) })
	pour(b, a)
	wg.Wait()
	a.Close()
	b.Close()
}

func pour(dst, src duplex) {
	_, err := io.Copy(dst, src)
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		dst.Close()
		src.Close()
	}
}
