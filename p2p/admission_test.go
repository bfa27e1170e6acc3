package p2p

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A fakeAdmission shows one text and wants to see another.
type fakeAdmission struct {
	show, want string
	reason     error // for which others are refused
}

func (a fakeAdmission) Proof(peer.ID) []byte { return []byte(a.show) }

func (a fakeAdmission) Check(_ peer.ID, proof []byte) error {
	if string(proof) != a.want {
		return a.reason
	}
	return nil
}

const errWrongWord = Refusal(20)

// secret is the Admission of nodes that share one.
func secret(word string) Admission {
	return fakeAdmission{show: word, want: word, reason: errWrongWord}
}

const testPeer = peer.ID("peer")

func TestRefusalText(t *testing.T) {
	for r, want := range map[Refusal]string{
		RefusedUnspecified: "no reason given",
		RefusedMalformed:   "not understood",
		RefusedBusy:        "too busy",
		20:                 "reason 20",
	} {
		if got := r.Error(); got != want {
			t.Errorf("Refusal(%d).Error() = %q, want %q", uint8(r), got, want)
		}
	}
}

func TestExchange(t *testing.T) {
	tooLarge := strings.Repeat("x", MaxProof+1)
	largest := strings.Repeat("x", MaxProof)
	unnamed := errors.New("a stranger")
	for _, tt := range []struct {
		name             string
		dialer, listener fakeAdmission
		dials, listens   string // what their errors say; empty means admitted
	}{
		{"both show the word", fakeAdmission{"a", "b", errWrongWord}, fakeAdmission{"b", "a", errWrongWord}, "", ""},
		{"both show nothing", fakeAdmission{}, fakeAdmission{}, "", ""},
		{"both show as much as they may", fakeAdmission{largest, largest, errWrongWord}, fakeAdmission{largest, largest, errWrongWord}, "", ""},
		{"listener refuses with a code", fakeAdmission{show: "wrong"}, fakeAdmission{"b", "a", errWrongWord},
			"peer refuses: reason 20", "peer is refused: reason 20"},
		{"listener refuses with a code and words", fakeAdmission{show: "wrong"}, fakeAdmission{"b", "a", fmt.Errorf("not the word: %w", errWrongWord)},
			"peer refuses: reason 20", "peer is refused: not the word: reason 20"},
		{"listener refuses without a code", fakeAdmission{show: "wrong"}, fakeAdmission{"b", "a", unnamed},
			"peer refuses: no reason given", "peer is refused: a stranger"},
		{"listener refuses with the code of admission", fakeAdmission{show: "wrong"}, fakeAdmission{"b", "a", Refusal(0)},
			"peer refuses: no reason given", "peer is refused: reason 0"},
		{"dialer refuses", fakeAdmission{"a", "b", unnamed}, fakeAdmission{show: "wrong", want: "a"},
			"peer is refused: a stranger", ""},
		{"dialer shows too much", fakeAdmission{show: tooLarge}, fakeAdmission{},
			"own proof has 9217 bytes, more than 9216", "peer is refused: not understood: EOF"},
		{"listener shows too much", fakeAdmission{}, fakeAdmission{show: tooLarge},
			"peer refuses: no reason given", "peer is refused: own proof has 9217 bytes, more than 9216"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			listened := make(chan error, 1)
			go func() {
				defer b.Close()
				listened <- answer(b, tt.listener, testPeer)
			}()
			err := ask(a, tt.dialer, testPeer)
			a.Close()
			checkText(t, "ask", err, tt.dials)
			checkText(t, "answer", <-listened, tt.listens)
		})
	}
}

// checkText compares an error's text, which is empty for none.
func checkText(t testing.TB, call string, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("%s = %q, want %q", call, got, want)
	}
}

func TestExchangeWithoutAnAnswer(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   io.Reader
		want error
	}{
		{"the end", strings.NewReader(""), errNoExchange},
		{"the end in the proof", strings.NewReader("\x01\x00\x00\x05pro"), errNoExchange},
		{"a proof that is too large", strings.NewReader("\x01\x00\xff\xff" + strings.Repeat("x", 1<<16)), errNoExchange},
		{"another protocol", strings.NewReader("\x13/multistream/1.0.0\n"), errNoExchange},
		{"a refusal", strings.NewReader("\x01\x13"), Refusal(19)},
		{"a refusal of another version", strings.NewReader("\x02\x13"), errNoExchange},
		{"half a refusal", strings.NewReader("\x01"), errNoExchange},
		{"a deadline", deadlineReader{}, os.ErrDeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := ask(readWriter{tt.in, io.Discard}, secret("word"), testPeer)
			checkIs(t, "ask", err, tt.want)
		})
	}
}

type readWriter struct {
	io.Reader
	io.Writer
}

type deadlineReader struct{}

func (deadlineReader) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// A watchedReader remembers how much it was asked for at once, which is how
// much was allocated for it.
type watchedReader struct {
	bytes.Reader
	most int
}

func (r *watchedReader) Read(p []byte) (int, error) {
	r.most = max(r.most, len(p))
	return r.Reader.Read(p)
}

// A watchedAdmission remembers whether it admitted.
type watchedAdmission struct {
	fakeAdmission
	admits bool
}

func (a *watchedAdmission) Check(id peer.ID, proof []byte) error {
	err := a.fakeAdmission.Check(id, proof)
	a.admits = err == nil
	return err
}

func newWatched(in []byte) (*watchedReader, *watchedAdmission) {
	return &watchedReader{Reader: *bytes.NewReader(in)},
		&watchedAdmission{fakeAdmission: fakeAdmission{show: "own", want: "word", reason: errWrongWord}}
}

func (r *watchedReader) check(t *testing.T, in []byte) {
	t.Helper()
	if r.most > MaxProof {
		t.Errorf("asked for %d bytes at once, want at most %d", r.most, MaxProof)
	}
	if used := len(in) - r.Len(); used > maxExchange {
		t.Errorf("read %d bytes, want at most %d", used, maxExchange)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("\x01\x00\x04word"))
	f.Add([]byte("\x01\x00\x04wrong"))
	f.Add([]byte("\x01\x10\x01"))
	f.Add([]byte("\x02\x00\x04word"))
	f.Add([]byte("\x13/multistream/1.0.0\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		r, a := newWatched(in)
		err := answer(readWriter{r, &out}, a, testPeer)
		r.check(t, in)
		if (err == nil) != a.admits {
			t.Errorf("answer to %q = %v, and Check admitted: %v", in, err, a.admits)
		}
		if err == nil && out.String() != "\x01\x00\x00\x03own" {
			t.Errorf("answer to %q wrote %q when it admitted", in, &out)
		}
		if err != nil && (out.Len() != 2 || out.Bytes()[0] != admissionVersion || out.Bytes()[1] == byte(admitted)) {
			t.Errorf("answer to %q wrote %q when it refused, want the version and a reason that is not 0", in, &out)
		}
	})
}

func FuzzAsk(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x04word"))
	f.Add([]byte("\x01\x00\x00\x05wrong"))
	f.Add([]byte("\x01\x03"))
	f.Add([]byte("\x01\x00\x10\x01"))
	f.Add([]byte("\x13/multistream/1.0.0\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		r, a := newWatched(in)
		err := ask(readWriter{r, &out}, a, testPeer)
		r.check(t, in)
		if (err == nil) != a.admits {
			t.Errorf("ask answered with %q = %v, and Check admitted: %v", in, err, a.admits)
		}
		if out.String() != "\x01\x00\x03own" {
			t.Errorf("ask wrote %q", &out)
		}
	})
}

func FuzzReadProof(f *testing.F) {
	f.Add([]byte("\x00\x04word"))
	f.Add([]byte("\x10\x00"))
	f.Add([]byte("\x10\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, _ := newWatched(in)
		proof, err := readProof(r)
		r.check(t, in)
		if err != nil {
			return
		}
		if again := append(binary.BigEndian.AppendUint16(nil, uint16(len(proof))), proof...); !bytes.HasPrefix(in, again) {
			t.Errorf("readProof(%q) = %q", in, proof)
		}
	})
}

func TestAdmissionOnNodes(t *testing.T) {
	for _, tt := range []struct {
		name             string
		dialer, listener Admission
		want             error
		here             bool
	}{
		{"both hold the secret", secret("word"), secret("word"), nil, false},
		{"listener refuses", secret("wrong"), secret("word"), errWrongWord, false},
		{"dialer refuses", secret("word"), fakeAdmission{show: "wrong", want: "word"}, errWrongWord, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, over := range transports {
				t.Run(over.name, func(t *testing.T) {
					t.Parallel()
					dialer := newTestNode(t, Config{Admission: tt.dialer})
					listener := newTestNode(t, Config{Admission: tt.listener, Listen: addrs(over.listen)})
					serveEcho(t, listener, "/echo/1")
					// The reason has to arrive every time, not most times.
					for range 10 {
						err := dialer.Connect(testContext(t), listener.ID(), listener.Addrs()...)
						checkRefused(t, err, listener.ID(), tt.want, tt.here)
					}
					if tt.want == nil {
						if err := echo(testContext(t), dialer, listener.ID(), "/echo/1"); err != nil {
							t.Errorf("echo = %v, want nil", err)
						}
						return
					}
					waitFor(t, dialer, "no connection", func(c []Connection) bool { return len(c) == 0 })
					waitFor(t, listener, "no connection", func(c []Connection) bool { return len(c) == 0 })
				})
			}
		})
	}
}

func checkRefused(t *testing.T, err error, id peer.ID, want error, here bool) {
	t.Helper()
	checkIs(t, "Connect", err, want)
	if want == nil {
		return
	}
	var dial *DialError
	if !errors.As(err, &dial) || dial.Peer != id {
		t.Errorf("Connect = %#v, want a DialError about %v", err, id)
	}
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Peer != id || refused.Here != here {
		t.Errorf("Connect = %#v, want a RefusedError about %v, Here = %v", refused, id, here)
	}
}

// waitFor waits until a node's connections are as they should be.
func waitFor(t testing.TB, n *Node, what string, ok func([]Connection) bool) {
	t.Helper()
	ctx := testContext(t)
	var last []Connection
	for last = range n.Watch(ctx) {
		if ok(last) {
			return
		}
	}
	t.Fatalf("connections of %v = %v after %v, want %s", n.ID(), last, patience, what)
}

// Each dial tells why it failed itself, not why one before did.
func TestRefusalIsNotRememberedForLaterDials(t *testing.T) {
	dialer := newTestNode(t, Config{Admission: secret("wrong")})
	listener := newTestNode(t, Config{Admission: secret("word")})
	if err := dialer.Connect(testContext(t), listener.ID(), listener.Addrs()...); !errors.Is(err, errWrongWord) {
		t.Fatalf("Connect = %v, want %v", err, errWrongWord)
	}
	listener.Close()
	err := dialer.Connect(testContext(t), listener.ID())
	var refused *RefusedError
	if err == nil || errors.As(err, &refused) {
		t.Errorf("Connect once nobody is there = %v, want that nobody is there", err)
	}
}
