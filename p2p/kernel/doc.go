// Package kernel does with sockets what package net does not: it moves bytes from
// one to another without a copy through this process, and breaks off a connection
// that other processes have as well.
//
// It works on Linux. Elsewhere [Socket] finds none, and its callers copy.
package kernel

import "errors"

// ErrNoSplice says that bytes must be copied, since there is no pipe to be had or
// the kernel can't splice these sockets. None are lost: the way is open.
var ErrNoSplice = errors.New("no splice")

// ErrNotNow says that a connection can't be had without waiting, or not by Connect.
var ErrNotNow = errors.New("no connection at once")
