package unixsock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const (
	// What is wrong is tried again at once and then at intervals that grow from
	// minRetry to maxRetry: somebody who mends it sees that soon, and a fault
	// that lasts costs nothing.
	minRetry = 100 * time.Millisecond
	maxRetry = 30 * time.Second

	// abandoned is the age from which a socket that never got its name is one
	// whose process died on the way. It takes microseconds.
	abandoned = time.Minute

	// keepName is an empty file in each directory. No event tells who watches a
	// directory that it was removed, as long as any socket made in it is open,
	// but there is one of the removal of this file, which has to come first. It
	// is then made again, and only in a directory that is still there can it be.
	keepName = ".keep"
)

// A watcher waits for changes of a directory.
type watcher interface {
	// next returns what changed. The error is os.ErrDeadlineExceeded if nothing
	// has until then, never if the deadline is zero; any other says that this
	// watcher sees no more.
	next(deadline time.Time) ([]change, error)

	// close makes next return, now and later. It may be called while it waits.
	close()
}

// A change is what a watcher saw.
type change struct {
	what what
	name string // of the file, for aFile
}

type what uint8

const (
	nothing       what = iota
	aFile              // one file came, went or is another
	everyFile          // any number did
	theDirectory       // it may have another owner or mode
	directoryLost      // it was removed, moved or unmounted
)

// run follows what happens in the directory until it is closed.
func (d *Directory) run() {
	defer close(d.done)
	var wait time.Duration // until what is wrong is tried again
	var last time.Time     // when it was
	for {
		d.mu.Lock()
		w, closed := d.watcher, d.closed
		d.mu.Unlock()
		if closed {
			return
		}
		var retry time.Time
		if d.wrong() {
			retry = time.Now().Add(wait)
			if soonest := last.Add(minRetry); retry.Before(soonest) {
				retry = soonest
			}
		}
		if d.attend(w, retry) {
			wait = 0
			continue
		}
		d.mend()
		last = time.Now()
		wait = min(max(2*wait, minRetry), maxRetry)
	}
}

// attend follows changes until it is time to try again what is wrong, or
// something else is: then it returns true.
func (d *Directory) attend(w watcher, retry time.Time) (newly bool) {
	for {
		changes, err := w.next(retry)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		if err != nil {
			if d.current() == w {
				d.lose(fmt.Errorf("watch it: %w", err))
			}
			return true
		}
		for _, c := range changes {
			d.follow(c)
		}
		if d.current() != w || d.wrong() == retry.IsZero() {
			return true
		}
	}
}

func (d *Directory) current() watcher {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.watcher
}

// wrong tells whether there is anything to mend.
func (d *Directory) wrong() bool {
	d.mu.Lock()
	err, s := errors.Join(d.watchErr, d.scanErr), d.socket
	d.mu.Unlock()
	return err != nil || s != nil && s.Err() != nil
}

// mend tries again what did not work.
func (d *Directory) mend() {
	d.mu.Lock()
	h, s := d.handle, d.socket
	unwatched, unseen := d.watchErr != nil, d.scanErr != nil
	d.mu.Unlock()
	if h != nil {
		if err := h.check(d.users, d.private); err != nil {
			d.lose(err)
			h = nil
		}
	}
	switch {
	case h == nil:
		var err error
		if h, err = d.reopen(); err != nil {
			d.mu.Lock()
			d.watchErr = fmt.Errorf("open it again: %w", err)
			d.mu.Unlock()
			return
		}
		d.log.Info("directory of sockets is there again")
	case unwatched:
		w, err := watch(h)
		if err != nil {
			break
		}
		d.setWatcher(h, w, nil)
		d.scan(h)
	case unseen:
		d.scan(h)
	}
	if s != nil {
		s.mend(h)
	}
}

// follow acts on one change.
func (d *Directory) follow(c change) {
	d.mu.Lock()
	h, own, s := d.handle, d.own[c.name], d.socket
	d.mu.Unlock()
	if h == nil { // lost by an earlier change
		return
	}
	switch c.what {
	case aFile:
		switch {
		case own && s != nil:
			s.mend(h)
		case c.name == keepName:
			d.keep(h)
		default:
			d.look(h, c.name)
		}
	case everyFile:
		d.keep(h)
		d.scan(h)
		if s != nil {
			s.mend(h)
		}
	case theDirectory:
		if err := h.check(d.users, d.private); err != nil {
			d.lose(err)
		}
	case directoryLost:
		d.lose(errors.New("it was removed or moved"))
	}
}

// keep notices if the directory was removed.
func (d *Directory) keep(h *handle) {
	if err := h.keep(); errors.Is(err, fs.ErrNotExist) {
		d.lose(errors.New("it was removed"))
	}
}

// look sees whether a name is now one of a socket that counts. It decrypts the
// name if it is new, and asks for one file's state.
func (d *Directory) look(h *handle, name string) {
	d.mu.Lock()
	id, known := d.entries.owner[name]
	d.mu.Unlock()
	if !known {
		var ours bool
		if id, ours = d.names.decode(name); !ours {
			return
		}
	}
	f, err := h.stat(name)
	ok := err == nil && f.socket && d.trusts(f.uid)

	d.mu.Lock()
	defer d.mu.Unlock()
	if ok {
		if d.own[name] || !d.entries.put(id, entry{name, f.made}) {
			return
		}
	} else if !d.entries.drop(name) {
		return
	}
	d.tellLocked()
}

// scan looks at all names anew, and removes sockets that dead processes left
// before they had their name.
func (d *Directory) scan(h *handle) {
	list, err := h.list(maxNames + 1)
	if len(list) > maxNames {
		list = list[:maxNames]
		err = fmt.Errorf("%w: only %d are looked at; remove what does not belong there", ErrCrowded, maxNames)
	} else if err != nil {
		err = fmt.Errorf("list it: %w", err)
	}
	found := newEntries()
	for _, name := range list {
		if isTemporaryName(name) {
			d.removeAbandoned(h, name)
			continue
		}
		id, ours := d.names.decode(name)
		if !ours {
			continue
		}
		if f, err := h.stat(name); err == nil && f.socket && d.trusts(f.uid) {
			found.put(id, entry{name, f.made})
		}
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	d.scanErr = err
	for name := range d.own {
		found.drop(name)
	}
	if !found.equal(d.entries) {
		d.entries = found
		d.tellLocked()
	}
}

// removeAbandoned removes a socket that never got its name. One whose process
// was only stopped for so long finds it gone, and makes another.
func (d *Directory) removeAbandoned(h *handle, name string) {
	f, err := h.stat(name)
	if err != nil || !f.socket || !d.trusts(f.uid) || time.Since(f.made) < abandoned {
		return
	}
	t, err := h.open(name)
	if err != nil {
		return
	}
	defer t.close()
	if t.file.id != f.id {
		return
	}
	c, err := t.connect()
	if err == nil {
		c.Close()
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		h.removeStale(name, t.file)
	}
}

// lose gives the directory up, with all that was known of it, to be opened
// again.
func (d *Directory) lose(err error) {
	d.mu.Lock()
	if d.closed || d.handle == nil {
		d.mu.Unlock()
		return
	}
	h, w, s := d.handle, d.watcher, d.socket
	d.handle, d.watcher = nil, newSleeper(d.closing)
	d.watchErr, d.scanErr = err, nil
	if len(d.entries.owner) > 0 {
		d.entries = newEntries()
		d.tellLocked()
	}
	d.mu.Unlock()
	d.log.Warn("directory of sockets is lost", "err", err)
	w.close()
	if s != nil {
		s.strand(err)
	}
	h.close()
}

// reopen opens the directory, watches it and sees what is there.
func (d *Directory) reopen() (*handle, error) {
	h, err := openHandle(d.path, len(d.users) == 1)
	if err != nil {
		return nil, err
	}
	if err := h.check(d.users, d.private); err != nil {
		h.close()
		return nil, err
	}
	if err := h.keep(); errors.Is(err, fs.ErrNotExist) {
		h.close()
		return nil, errors.New("it was removed while it was opened")
	}
	if _, err := h.list(1); err != nil {
		h.close()
		return nil, err
	}
	w, err := watch(h)
	if err != nil {
		w = newPoller(h, d.closing)
		err = fmt.Errorf("%w; looking there every %v instead", err, pollInterval)
		d.log.Warn("directory of sockets can't be watched", "err", err)
	}
	d.setWatcher(h, w, err)
	d.scan(h) // after the watch began, so that nothing comes unseen
	return h, nil
}

// setWatcher has w watch h from now on, and err say what is wrong with it.
func (d *Directory) setWatcher(h *handle, w watcher, err error) {
	d.mu.Lock()
	old := d.watcher
	d.handle, d.watcher, d.watchErr = h, w, err
	if d.closed { // Close has closed the old one, and closes h
		w.close()
	}
	d.mu.Unlock()
	if old != nil {
		old.close()
	}
}

// A sleeper is the watcher of no directory.
type sleeper struct{ closing <-chan struct{} }

func newSleeper(closing <-chan struct{}) watcher { return sleeper{closing} }

func (s sleeper) next(deadline time.Time) ([]change, error) {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil, os.ErrDeadlineExceeded
	case <-s.closing:
		return nil, os.ErrClosed
	}
}

func (s sleeper) close() {}
