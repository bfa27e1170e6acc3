package overlay

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// A state file is taken only if all of it is as it was written. bbolt has sums
// over its two meta pages alone, and trusts what the others say: one that is
// damaged takes it beyond the end of the file, in circles, or to values that
// nobody wrote. So its pages are walked first, then bbolt's own check is run,
// and then the values are compared with a seal that each write renews.
//
// A file whose newest meta page is damaged is as it was before the last write.

// checkFile returns what is wrong with a file, if it is there, as an error that
// is ErrStateCorrupt. Nothing is written to it.
func checkFile(path string) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: not a file but %v", ErrStateCorrupt, info.Mode().Type())
	}
	if info.Size() == 0 {
		return checkEmpty(path)
	}
	// Where the file is shorter than it says, reading it faults.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrStateCorrupt, r)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true})
	var file *fs.PathError
	if errors.Is(err, bolterrors.ErrTimeout) || errors.As(err, &file) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStateCorrupt, err)
	}
	defer db.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := db.View(func(tx *bbolt.Tx) error { return checkState(tx, data, db.Info().PageSize) }); err != nil {
		return fmt.Errorf("%w: %w", ErrStateCorrupt, err)
	}
	return nil
}

// checkEmpty judges a file without content. It is new, unless there is a key,
// which is made after the file has its first pages.
func checkEmpty(path string) error {
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), nodeKeyFile)); err == nil {
		return fmt.Errorf("%w: it is empty", ErrStateCorrupt)
	}
	return nil
}

func checkState(tx *bbolt.Tx, data []byte, pageSize int) error {
	if err := walkPages(data, pageSize, tx.ID()); err != nil {
		return err
	}
	var errs []error
	for err := range tx.Check() {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return checkSeal(tx, len(data)/pageSize)
}

// The bucket and key of the seal.
const (
	sealBucket = "seal"
	keySeal    = "sha256"
)

// newPages is how many pages a file has in which nothing was ever written.
const newPages = 4

// checkSeal compares the values with the seal. Only a new file has none.
func checkSeal(tx *bbolt.Tx, pages int) error {
	b := tx.Bucket([]byte(sealBucket))
	if b == nil {
		if pages == newPages && tx.ID() == 1 {
			return nil
		}
		return errors.New("the seal is missing")
	}
	sum, err := seal(tx)
	if err == nil && !bytes.Equal(sum, b.Get([]byte(keySeal))) {
		return errors.New("the seal does not fit the values")
	}
	return err
}

// renewSeal seals the values as they are at the end of a transaction.
func renewSeal(tx *bbolt.Tx) error {
	sum, err := seal(tx)
	if err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists([]byte(sealBucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(keySeal), sum)
}

// seal returns the SHA-256 of all values, with their buckets and keys.
func seal(tx *bbolt.Tx) ([]byte, error) {
	h := sha256.New()
	err := tx.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
		if string(bucket) == sealBucket {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			for _, part := range [][]byte{bucket, k, v} {
				h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
				h.Write(part)
			}
			return nil
		})
	})
	return h.Sum(nil), err
}

// A pageWalk goes to all pages that are in use and sees that each is in its
// place, is pointed to once, and keeps within its bounds. The layout is that of
// bbolt's files, version 2: see internal/common in bbolt's sources.
type pageWalk struct {
	data []byte // of the file
	size uint64 // of a page
	seen map[uint64]bool
}

const (
	pageHeader   = 16 // ID, flags, count, overflow
	pageElement  = 16
	bucketHeader = 16 // root page, sequence
	metaRoot     = pageHeader + 16
	metaFreelist = pageHeader + 32

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketLeaf   = 0x01 // flag of a leaf's element that is a bucket
)

func walkPages(data []byte, pageSize int, txID int) error {
	size := uint64(pageSize)
	w := &pageWalk{data, size, map[uint64]bool{0: true, 1: true}}
	meta := data[uint64(txID%2)*size:] // which bbolt has verified
	return errors.Join(w.tree(number64(meta[metaRoot:])), w.freelist(number64(meta[metaFreelist:])))
}

// take returns a page with those that continue it.
func (w *pageWalk) take(id uint64) ([]byte, error) {
	pages := uint64(len(w.data)) / w.size
	if id >= pages {
		return nil, fmt.Errorf("page %d of %d is missing", id, pages)
	}
	p := w.data[id*w.size:]
	more := uint64(number32(p[12:]))
	if number64(p) != id || more >= pages-id {
		return nil, fmt.Errorf("page %d has another's place or length", id)
	}
	for i := id; i <= id+more; i++ {
		if w.seen[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		w.seen[i] = true
	}
	return p[:(1+more)*w.size], nil
}

func (w *pageWalk) freelist(id uint64) error {
	p, err := w.take(id)
	if err != nil {
		return err
	}
	if number16(p[8:]) != freelistPage || pageHeader+8*int(number16(p[10:])) > len(p) {
		return fmt.Errorf("page %d holds no list of free pages", id)
	}
	return nil
}

// tree walks a page and all below it.
func (w *pageWalk) tree(id uint64) error {
	p, err := w.take(id)
	if err != nil {
		return err
	}
	branch := number16(p[8:]) == branchPage
	if branch && number16(p[10:]) == 0 || !branch && number16(p[8:]) != leafPage {
		return fmt.Errorf("page %d is neither branch nor leaf", id)
	}
	each := w.leaf
	if branch {
		each = w.branch
	}
	if err := elements(p, each); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements calls each with the page from each of its elements on.
func elements(p []byte, each func(p []byte) error) error {
	for i := range int(number16(p[10:])) {
		at := pageHeader + i*pageElement
		if at+pageElement > len(p) {
			return errors.New("more elements than fit")
		}
		if err := each(p[at:]); err != nil {
			return err
		}
	}
	return nil
}

// branch takes an element with position and size of a key, and a page.
func (w *pageWalk) branch(p []byte) error {
	if uint64(number32(p))+uint64(number32(p[4:])) > uint64(len(p)) {
		return errors.New("a key beyond the end")
	}
	return w.tree(number64(p[8:]))
}

// leaf takes an element with flags, the position of a key, its size, and that
// of the value behind it.
func (w *pageWalk) leaf(p []byte) error {
	value := uint64(number32(p[4:])) + uint64(number32(p[8:]))
	end := value + uint64(number32(p[12:]))
	if end > uint64(len(p)) {
		return errors.New("a value beyond the end")
	}
	if number32(p)&bucketLeaf == 0 {
		return nil
	}
	return w.bucket(p[value:end])
}

// bucket takes a bucket, whose values are on pages of their own, or behind its
// header on what looks like a page.
func (w *pageWalk) bucket(v []byte) error {
	switch {
	case len(v) < bucketHeader:
		return errors.New("a bucket without a header")
	case number64(v) != 0:
		return w.tree(number64(v))
	case len(v) < bucketHeader+pageHeader || number16(v[bucketHeader+8:]) != leafPage:
		return errors.New("a bucket without a page")
	}
	return elements(v[bucketHeader:], w.leaf)
}

// Numbers are in the machine's own order.
func number16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }
func number32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
func number64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
