package unixsock

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

func numberedKey(t testing.TB, n byte) crypto.PrivKey {
	t.Helper()
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func connectedPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := newPair()
	if err != nil {
		t.Fatal(err)
	}
	return rawUnix(t, fds[0]), rawUnix(t, fds[1])
}

// A shaken is how a handshake came out at one end.
type shaken struct {
	party party
	err   error
}

// start runs a handshake.
func start(ctx context.Context, c *net.UnixConn, key crypto.PrivKey, dialer bool, expect peer.ID) <-chan shaken {
	done := make(chan shaken, 1)
	go func() {
		p, err := shake(ctx, c, key, dialer, expect)
		if err != nil {
			_ = c.Close()
		}
		done <- shaken{p, err}
	}()
	return done
}

func TestHandshake(t *testing.T) {
	one, two := numberedPeer(t, 1), numberedPeer(t, 2)
	for _, v := range []struct {
		name                 string
		byDialer, byListener peer.ID // whom each expects
		dialerErr            string
		listenerErr          string
	}{
		{name: "both know whom they meet", byDialer: two, byListener: one},
		{name: "the listener takes anyone", byDialer: two},
		{name: "both take anyone"},
		{name: "the dialer wants another", byDialer: one, dialerErr: "another peer is there: " + two.String(), listenerErr: "EOF"},
		{name: "the listener wants another", byDialer: two, byListener: two, listenerErr: "another peer is there: " + one.String()},
	} {
		t.Run(v.name, func(t *testing.T) {
			a, b := connectedPair(t)
			listener := start(t.Context(), b, numberedKey(t, 2), false, v.byListener)
			dialed := <-start(t.Context(), a, numberedKey(t, 1), true, v.byDialer)
			listened := <-listener
			checkShaken(t, "dialer", dialed, two, v.dialerErr)
			checkShaken(t, "listener", listened, one, v.listenerErr)
		})
	}
}

func checkShaken(t *testing.T, end string, got shaken, want peer.ID, wantErr string) {
	t.Helper()
	switch p := got.party; {
	case wantErr != "":
		if got.err == nil || !strings.Contains(got.err.Error(), wantErr) || p.key != nil {
			t.Errorf("%s: %+v, %v; want the error %q", end, p, got.err, wantErr)
		}
	case got.err != nil:
		t.Errorf("%s: %v", end, got.err)
	case p.id != want || !want.MatchesPublicKey(p.key) || p.user != ownUser() || p.pid != int32(os.Getpid()):
		t.Errorf("%s: the other end is %+v; want %v, user %d, process %d", end, p, want, ownUser(), os.Getpid())
	}
}

// An impostor is the dialer of a handshake that does one thing wrong.
type impostor struct {
	name   string
	shows  byte   // the number of the key that it shows
	user   uint32 // added to the user that it is
	signs  byte   // the number of the key that it signs with
	role   string
	over   []byte // signed instead of what was said, if not nil
	key    []byte // shown instead of a key, if not nil
	length []byte // sent instead of a proof, if not nil
	want   string
}

func TestListenerRefuses(t *testing.T) {
	const notHeld = "does not hold the key that it shows"
	for _, v := range []impostor{
		{name: "another's key", shows: 1, signs: 3, role: signedByDialer, want: notHeld},
		{name: "the listener's role", shows: 1, signs: 1, role: signedByListener, want: notHeld},
		{name: "a proof from another handshake", shows: 1, signs: 1, role: signedByDialer, over: make([]byte, sha256.Size), want: notHeld},
		{name: "another user", shows: 1, user: 1, signs: 1, role: signedByDialer, want: "the other end says it is user "},
		{name: "no key", signs: 1, role: signedByDialer, key: []byte("no key"), want: errProtocol.Error() + ": key: "},
		{name: "a proof that is too long", shows: 1, length: []byte{0x04, 0x01}, want: "1025 bytes where there are at most 1024"},
	} {
		t.Run(v.name, func(t *testing.T) {
			a, b := connectedPair(t)
			listener := start(t.Context(), b, numberedKey(t, 2), false, "")
			v.dial(t, a)
			checkShaken(t, "listener", <-listener, "", v.want)
		})
	}
}

func (v impostor) dial(t *testing.T, c *net.UnixConn) {
	t.Helper()
	own := hello{key: v.key, user: ownUser() + v.user}
	if own.key == nil {
		var err error
		if own.key, err = crypto.MarshalPublicKey(numberedKey(t, v.shows).GetPublic()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write(own.bytes()); err != nil {
		t.Fatal(err)
	}
	theirs, err := readHello(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readPart(c, maxSignature); err != nil {
		t.Fatal(err)
	}
	if v.length != nil {
		if _, err := c.Write(v.length); err != nil {
			t.Fatal(err)
		}
		return
	}
	transcript := sha256.Sum256(append(own.bytes(), theirs.bytes()...))
	over := transcript[:]
	if v.over != nil {
		over = v.over
	}
	if err := prove(c, nil, numberedKey(t, v.signs), v.role, over); err != nil {
		t.Fatal(err)
	}
}

// The dialer is shown a key by one that does not hold it.
func TestDialerRefusesAnothersKey(t *testing.T) {
	a, b := connectedPair(t)
	dialer := start(t.Context(), a, numberedKey(t, 1), true, numberedPeer(t, 2))
	theirs, err := readHello(b)
	if err != nil {
		t.Fatal(err)
	}
	own := hello{user: ownUser()}
	if own.key, err = crypto.MarshalPublicKey(numberedKey(t, 2).GetPublic()); err != nil {
		t.Fatal(err)
	}
	transcript := sha256.Sum256(append(theirs.bytes(), own.bytes()...))
	if err := prove(b, own.bytes(), numberedKey(t, 3), signedByListener, transcript[:]); err != nil {
		t.Fatal(err)
	}
	checkShaken(t, "dialer", <-dialer, "", "does not hold the key that it shows")
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the dialer said %d bytes more, %v; want none", n, err)
	}
}

// Who says nothing is waited for until the context ends.
func TestHandshakeStalls(t *testing.T) {
	for name, dialer := range map[string]bool{"dialer": true, "listener": false} {
		t.Run(name, func(t *testing.T) {
			why := errors.New("no longer wanted")
			ctx, cancel := context.WithCancelCause(t.Context())
			a, b := connectedPair(t)
			done := start(ctx, a, numberedKey(t, 1), dialer, "")
			if dialer {
				if _, err := readHello(b); err != nil {
					t.Fatal(err)
				}
			} else if _, err := b.Write((hello{}).bytes()[:1]); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-done:
				t.Fatalf("the handshake ended: %v", got.err)
			default:
			}
			cancel(why)
			if got := <-done; !errors.Is(got.err, why) {
				t.Errorf("%v, want %v", got.err, why)
			}
		})
	}
}
