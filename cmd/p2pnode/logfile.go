package main

import (
	"fmt"
	"os"
	"sync"
)

const (
	// logName is that of the log of a node in the background, in its directory.
	logName = "node.log"

	// oldLog is added to the name of what was logged before.
	oldLog = ".1"

	// maxLog is how long a log gets, in bytes, before it is put aside.
	maxLog = 4 << 20
)

// A logFile is a log that takes up to twice maxLog bytes of the disk: at that length
// it is put aside, in the place of the one before. It may be written to by several
// goroutines at once.
type logFile struct {
	path string
	most int64

	mu   sync.Mutex // guards the fields below
	file *os.File
	size int64
}

// openLog opens a log to add to it, for its owner alone.
func openLog(path string, most int64) (*logFile, error) {
	l := &logFile{path: path, most: most}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return l, nil
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write adds to the log.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(p)) > l.most {
		if err := l.putAside(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

func (l *logFile) putAside() error {
	before := l.file
	if err := os.Rename(l.path, l.path+oldLog); err != nil {
		return err
	}
	if err := l.open(); err != nil {
		return err // and what follows is added to the old one
	}
	return before.Close()
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
