package overlay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// openTestStore opens the store of a directory until the test ends.
func openTestStore(t testing.TB, dir string) *fileStore {
	t.Helper()
	s, err := openStore(dir)
	if err != nil {
		t.Fatalf("openStore = %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// contents returns all that a store holds.
func contents(t testing.TB, s store) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, bucket := range []string{selfBucket, membersBucket} {
		values, err := s.all(bucket)
		if err != nil {
			t.Fatalf("all(%s) = %v", bucket, err)
		}
		for k, v := range values {
			out[bucket+"/"+k] = string(v)
		}
	}
	return out
}

// fill writes as much as a node with many peers has: it takes several pages,
// and a page that points to them.
func fill(t testing.TB, s store) {
	t.Helper()
	if err := s.put(selfBucket, map[string][]byte{
		keyMesh: bytes.Repeat([]byte{7}, 32), keyCredential: bytes.Repeat([]byte{8}, 700), keyPort: {1, 2},
	}); err != nil {
		t.Fatal(err)
	}
	peers := map[string][]byte{}
	for n := range 100 {
		peers[fmt.Sprintf("peer %d", n)] = bytes.Repeat([]byte{byte(n)}, 150)
	}
	if err := s.put(membersBucket, peers); err != nil {
		t.Fatal(err)
	}
	if err := s.put(membersBucket, map[string][]byte{"peer 50": nil}); err != nil { // so that pages are free
		t.Fatal(err)
	}
}

// A damage is one thing that can happen to a file.
type damage struct {
	name string
	do   func(data []byte) []byte
}

const pageSize = 4096

func damages(size int) []damage {
	var all []damage
	for _, n := range []int{1, 100, pageSize - 1, pageSize, pageSize + 1, 2*pageSize - 1, 2 * pageSize, 2*pageSize + 1, 3 * pageSize} {
		all = append(all, damage{fmt.Sprintf("cut to %d", n), func(d []byte) []byte { return d[:n] }})
	}
	for n := 4 * pageSize; n < size; n += pageSize {
		all = append(all, damage{fmt.Sprintf("cut to %d", n), func(d []byte) []byte { return d[:n] }})
		all = append(all, damage{fmt.Sprintf("cut to %d", n-7), func(d []byte) []byte { return d[:n-7] }})
	}
	for n := range size / pageSize {
		all = append(all, damage{fmt.Sprintf("page %d zero", n), func(d []byte) []byte { clear(d[n*pageSize:][:pageSize]); return d }})
		all = append(all, damage{fmt.Sprintf("page %d garbage", n), func(d []byte) []byte {
			garble(d[n*pageSize:][:pageSize], uint64(n))
			return d
		}})
	}
	return append(all,
		damage{"all zero", func(d []byte) []byte { clear(d); return d }},
		damage{"all garbage", func(d []byte) []byte { garble(d, 1); return d }},
		damage{"text", func([]byte) []byte { return []byte("hello\n") }},
	)
}

func garble(b []byte, seed uint64) {
	source := rand.NewPCG(seed, 0)
	for i := range b {
		b[i] = byte(source.Uint64())
	}
}

// A filledStore is the content of a state file, byte by byte and value by value,
// and the values before the last write.
type filledStore struct {
	file         []byte
	last, before map[string]string
}

func newFilledStore(t testing.TB) filledStore {
	t.Helper()
	dir := t.TempDir()
	s := openTestStore(t, dir)
	fill(t, s)
	f := filledStore{before: contents(t, s)}
	if err := s.put(selfBucket, map[string][]byte{keyPort: {3, 4}}); err != nil {
		t.Fatal(err)
	}
	f.last = contents(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.file, err = os.ReadFile(filepath.Join(dir, stateFile)); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDamagedStore(t *testing.T) {
	f := newFilledStore(t)
	for _, d := range damages(len(f.file)) {
		t.Run(d.name, func(t *testing.T) {
			f.checkDamaged(t, t.TempDir(), d.do(bytes.Clone(f.file)))
		})
	}
}

// One bit is enough to send a reader of the file to the wrong place. Each byte
// of the headers and some of the rest have one flipped.
func TestStoreWithBitsFlipped(t *testing.T) {
	t.Parallel()
	f := newFilledStore(t)
	dir := t.TempDir()
	for at := range f.used() {
		if at%pageSize < 48 || at%257 == 0 {
			f.checkDamaged(t, dir, f.flipped(at, at*5%8))
		}
	}
}

func TestStoreWithManyBitsFlipped(t *testing.T) {
	t.Parallel()
	f := newFilledStore(t)
	dir := t.TempDir()
	source := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		data := bytes.Clone(f.file)
		for range 1 + source.IntN(20) {
			data[source.IntN(f.used())] ^= 1 << source.IntN(8)
		}
		f.checkDamaged(t, dir, data)
	}
}

// used returns how much of the file was ever written to. It ends in zeros.
func (f filledStore) used() int {
	return len(bytes.TrimRight(f.file, "\x00"))
}

func (f filledStore) flipped(at, bit int) []byte {
	data := bytes.Clone(f.file)
	data[at] ^= 1 << bit
	return data
}

// checkDamaged sees that a damaged file is refused each time and left alone, or
// is as it was.
func (f filledStore) checkDamaged(t *testing.T, dir string, data []byte) {
	t.Helper()
	write(t, dir, stateFile, string(data))
	write(t, dir, nodeKeyFile, "") // there was one
	for range 2 {
		s, err := openStore(dir)
		if err == nil {
			if got := contents(t, s); !maps.Equal(got, f.last) && !maps.Equal(got, f.before) {
				t.Errorf("openStore gives %q, want what was written", got)
			}
			s.Close()
			return
		}
		if !errors.Is(err, ErrStateCorrupt) {
			t.Errorf("openStore = %v, want %v", err, ErrStateCorrupt)
		}
		after, err := os.ReadFile(filepath.Join(dir, stateFile))
		if err != nil || !bytes.Equal(after, data) {
			t.Errorf("openStore changed the file it refused: %d bytes, %v, want %d", len(after), err, len(data))
		}
	}
}

// Before there is a key the file may be empty: a start was cut short.
func TestEmptyStore(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  bool
		want error
	}{
		{"without a key", false, nil},
		{"beside a key", true, ErrStateCorrupt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, stateFile, "")
			if tt.key {
				write(t, dir, nodeKeyFile, "key")
			}
			s, err := openStore(dir)
			if !errors.Is(err, tt.want) {
				t.Errorf("openStore = %v, want %v", err, tt.want)
			}
			if err == nil {
				s.Close()
			}
		})
	}
}

func write(t testing.TB, dir, file, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A file in which nothing was written yet has no seal, and is no damaged one.
func TestStoreClosedBeforeTheFirstWrite(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		s, err := openStore(dir)
		if err != nil {
			t.Fatalf("openStore = %v, want nil", err)
		}
		if got := contents(t, s); len(got) != 0 {
			t.Errorf("a new store has %v, want nothing", got)
		}
		s.Close()
	}
}

// Both stores do the same.
func TestStores(t *testing.T) {
	for _, kind := range []struct {
		name string
		open func(t *testing.T) store
	}{
		{"memory", func(*testing.T) store { return newMemoryStore() }},
		{"file", func(t *testing.T) store { return openTestStore(t, filepath.Join(t.TempDir(), "a", "b")) }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			s := kind.open(t)
			for _, step := range []struct {
				name   string
				bucket string
				put    map[string][]byte
				want   map[string]string // of both buckets
			}{
				{"nothing yet", selfBucket, nil, map[string]string{}},
				{"two values", selfBucket, map[string][]byte{"a": {1}, "b": {2}}, map[string]string{"self/a": "\x01", "self/b": "\x02"}},
				{"the same key elsewhere", membersBucket, map[string][]byte{"a": {3}},
					map[string]string{"self/a": "\x01", "self/b": "\x02", "members/a": "\x03"}},
				{"another value", selfBucket, map[string][]byte{"a": {4, 5}},
					map[string]string{"self/a": "\x04\x05", "self/b": "\x02", "members/a": "\x03"}},
				{"an empty value deletes, as does none", selfBucket, map[string][]byte{"a": {}, "b": nil, "c": {6}},
					map[string]string{"self/c": "\x06", "members/a": "\x03"}},
				{"deleting what is not there", membersBucket, map[string][]byte{"x": nil},
					map[string]string{"self/c": "\x06", "members/a": "\x03"}},
				{"an odd key", membersBucket, map[string][]byte{"\x00\xff": {7}},
					map[string]string{"self/c": "\x06", "members/a": "\x03", "members/\x00\xff": "\x07"}},
			} {
				if err := s.put(step.bucket, step.put); err != nil {
					t.Fatalf("%s: put = %v, want nil", step.name, err)
				}
				if got := contents(t, s); !maps.Equal(got, step.want) {
					t.Errorf("%s: contents = %q, want %q", step.name, got, step.want)
				}
			}
			checkGet(t, s, selfBucket, "c", []byte{6})
			checkGet(t, s, selfBucket, "a", nil)
			checkGet(t, s, "no such bucket", "a", nil)
			if err := s.Close(); err != nil {
				t.Errorf("Close = %v, want nil", err)
			}
		})
	}
}

func checkGet(t testing.TB, s store, bucket, key string, want []byte) {
	t.Helper()
	if got, err := s.get(bucket, key); err != nil || !bytes.Equal(got, want) {
		t.Errorf("get(%s, %s) = %x, %v, want %x", bucket, key, got, err, want)
	}
}

func TestFileStoreIsKept(t *testing.T) {
	dir := t.TempDir()
	s := openTestStore(t, dir)
	fill(t, s)
	want := contents(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, openTestStore(t, dir)); !maps.Equal(got, want) {
		t.Errorf("contents after openStore = %q, want %q", got, want)
	}
}

func TestStoreInUse(t *testing.T) {
	for _, tt := range []struct {
		name  string
		owner func(t *testing.T, s *fileStore)
		want  InUseError
		says  string
	}{
		{"by a node", func(t *testing.T, s *fileStore) {
			if err := s.own("alice"); err != nil {
				t.Fatal(err)
			}
		}, InUseError{Name: "alice", PID: os.Getpid()}, fmt.Sprintf("is in use by alice (process %d)", os.Getpid())},
		{"by one that is just starting", func(*testing.T, *fileStore) {}, InUseError{}, "is in use by another process"},
		{"by somebody whose word is damaged", func(t *testing.T, s *fileStore) {
			write(t, s.dir, ownerFile, `{"name":`)
		}, InUseError{}, "is in use by another process"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openTestStore(t, dir)
			tt.owner(t, s)
			_, err := openStore(dir)
			var got *InUseError
			tt.want.Dir = dir
			if !errors.As(err, &got) || *got != tt.want {
				t.Fatalf("openStore of a directory in use = %+v, want %+v", err, tt.want)
			}
			if want := "directory " + dir + " " + tt.says; err.Error() != want {
				t.Errorf("openStore says %q, want %q", err, want)
			}
			if err := s.put(selfBucket, map[string][]byte{"a": {1}}); err != nil {
				t.Errorf("put by the owner afterwards = %v, want nil", err)
			}
			s.Close()
			if _, err := os.Stat(filepath.Join(dir, ownerFile)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the owner's name after Close: %v, want that it is gone", err)
			}
			openTestStore(t, dir)
		})
	}
}

func TestStoreFileErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(t *testing.T, dir string)
		path string // below the test's directory
	}{
		{"directory is a file", func(t *testing.T, dir string) { write(t, dir, "x", "") }, "x"},
		{"directory is in a file", func(t *testing.T, dir string) { write(t, dir, "x", "") }, "x/y"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.make(t, dir)
			path := filepath.Join(dir, tt.path)
			_, err := openStore(path)
			var file *fs.PathError
			if !errors.As(err, &file) || errors.Is(err, ErrStateCorrupt) || !strings.Contains(err.Error(), dir) {
				t.Errorf("openStore = %v, want what the system says about a path below %s", err, dir)
			}
		})
	}
}

func TestStoreFileIsADirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, stateFile), 0o700); err != nil {
		t.Fatal(err)
	}
	checkNoFile(t, dir)
}

func checkNoFile(t testing.TB, dir string) {
	t.Helper()
	if _, err := openStore(dir); !errors.Is(err, ErrStateCorrupt) || !strings.Contains(err.Error(), "not a file") {
		t.Errorf("openStore = %v, want %v, since it is not a file", err, ErrStateCorrupt)
	}
}

// writerDir tells TestWriteUntilKilled where to write.
const writerDir = "OVERLAY_TEST_WRITER_DIR"

// TestWriteUntilKilled is the other process of TestKilledWhileWriting. It says
// which number it has written, once it is written, and ends by being killed.
func TestWriteUntilKilled(t *testing.T) {
	dir := os.Getenv(writerDir)
	if dir == "" {
		t.Skip("runs in a process of its own, for TestKilledWhileWriting")
	}
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.own("writer"); err != nil {
		t.Fatal(err)
	}
	for n := lastWritten(t, s) + 1; ; n++ {
		if err := s.put(membersBucket, valuesOf(n)); err != nil {
			t.Fatal(err)
		}
		fmt.Println(writtenMark + strconv.Itoa(n))
	}
}

// valuesOf returns what write n writes: its number, twice, and enough beside it
// that pages are split and freed.
func valuesOf(n int) map[string][]byte {
	value := []byte(strconv.Itoa(n))
	return map[string][]byte{
		"number": value, "same": value,
		fmt.Sprint("peer ", n%writtenPeers): bytes.Repeat([]byte{byte(n), 1}, n*37%300),
	}
}

const writtenPeers = 60

// checkWritten checks that all that was written up to n is there as the last
// write of it left it, and nothing else.
func checkWritten(t testing.TB, s store, n int) {
	t.Helper()
	want := newMemoryStore()
	for i := max(1, n-writtenPeers+1); i <= n; i++ {
		if err := want.put(membersBucket, valuesOf(i)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := contents(t, s), contents(t, want); !maps.Equal(got, want) {
		t.Errorf("after write %d the store has %q, want %q", n, got, want)
	}
}

const writtenMark = "written "

// lastWritten returns the number in a store, which is there twice.
func lastWritten(t testing.TB, s store) int {
	t.Helper()
	values, err := s.all(membersBucket)
	if err != nil {
		t.Fatal(err)
	}
	if string(values["number"]) != string(values["same"]) {
		t.Fatalf("a write is there by half: %q and %q", values["number"], values["same"])
	}
	n, _ := strconv.Atoi(string(values["number"]))
	return n
}

// kills is how often a writer is killed.
const kills = 1000

// After each kill the state opens, whole, and every write that had returned is
// there, with all that was written before.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	const stores = 4 // at a time, since most of it is waiting for the disk
	rounds := kills / stores
	if testing.Short() {
		rounds /= 20
	}
	for i := range stores {
		t.Run(fmt.Sprint("store ", i), func(t *testing.T) {
			t.Parallel()
			killAgainAndAgain(t, t.TempDir(), rounds)
		})
	}
}

func killAgainAndAgain(t *testing.T, dir string, rounds int) {
	for round := range rounds {
		said := killWriter(t, dir, 1+round%7, round == 0)
		s, err := openStore(dir)
		if err != nil {
			t.Fatalf("openStore after kill %d = %v, want nil", round+1, err)
		}
		if got := lastWritten(t, s); got < said || got > said+1 {
			t.Errorf("after kill %d the store has %d, want %d, or the one that was being written", round+1, got, said)
		} else {
			checkWritten(t, s, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killWriter runs a process that writes to a store, kills it after some writes
// and returns the last number that it said it had written. It may have a look
// at who has the store before.
func killWriter(t testing.TB, dir string, writes int, look bool) (said int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWriteUntilKilled$")
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n, isWrite := strings.CutPrefix(lines.Text(), writtenMark)
		if !isWrite {
			t.Errorf("the writer says %q", lines.Text())
			continue
		}
		if said, err = strconv.Atoi(n); err != nil {
			t.Errorf("the writer says %q", lines.Text())
		}
		if writes--; writes == 0 {
			if look {
				checkInUse(t, dir, cmd.Process.Pid)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || writes > 0 {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	return said
}

func checkInUse(t testing.TB, dir string, pid int) {
	t.Helper()
	_, err := openStore(dir)
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.Name != "writer" || inUse.PID != pid {
		t.Errorf("openStore while process %d writes = %v, want that it is in use by it", pid, err)
	}
}
