package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/p2pnode/p2pnode/overlay/credential"
	"github.com/p2pnode/p2pnode/overlay/wire"
)

// streamProtocol is what all streams to services speak: a frame that names the
// service, a frame that says yes or why not, and from then on the two
// programs' own bytes.
const streamProtocol = "/p2pnode/stream/1"

// maxHeader bounds both frames.
const maxHeader = 256

// Why a member does not give a stream. Each is told to the dialer.
var (
	// ErrNoService says that the member offers no such service.
	ErrNoService = errors.New("no such service")

	// ErrNotPermitted says that the service is not for this member.
	ErrNotPermitted = errors.New("not permitted")

	// ErrBusy says that the member can't take more at the moment.
	ErrBusy = errors.New("too busy")
)

// A request opens a stream to a service.
type request struct {
	Service string `cbor:"1,keyasint"`
	Kind    Kind   `cbor:"2,keyasint,omitempty"`
}

// A status answers it: 0, or the place of the reason in refusals.
type status struct {
	Code uint8 `cbor:"1,keyasint"`
}

// refusals are the reasons by code. Codes are never given another meaning.
var refusals = []error{1: ErrNoService, 2: ErrNotPermitted, 3: ErrBusy, 4: ErrNotMember, 5: ErrKind}

// What says yes is the same for each stream, and agreed the frame with it. A test
// holds both to the protocol.
var (
	yes, _    = wire.Marshal(statusOf(nil))
	agreed, _ = messageBytes(statusOf(nil))
)

// statusOf returns what the dialer is told; nil means yes, and no other does.
func statusOf(refusal error) status {
	if refusal == nil {
		return status{}
	}
	for code, r := range refusals {
		if r != nil && errors.Is(refusal, r) {
			return status{uint8(code)}
		}
	}
	return statusOf(ErrNotPermitted)
}

// readRequest leaves a kind that this version does not know as it is: no service
// is of it.
func readRequest(r io.Reader) (request, error) {
	var req request
	if err := readMessage(r, maxHeader, &req); err != nil {
		return request{}, err
	}
	if err := credential.CheckName(req.Service); err != nil {
		return request{}, fmt.Errorf("service %w", err)
	}
	return req, nil
}

func readStatus(r io.Reader) error {
	b, err := wire.ReadFrame(r, maxHeader)
	if err != nil {
		return err
	}
	if bytes.Equal(b, yes) {
		return nil // without the stack that decoding takes
	}
	var s status
	if err := wire.Unmarshal(b, &s); err != nil {
		return err
	}
	switch {
	case s.Code == 0:
		return nil
	case int(s.Code) < len(refusals):
		return refusals[s.Code]
	}
	return fmt.Errorf("refused for a reason that this version does not know: %d", s.Code)
}

// readMessage reads one frame and what is in it.
func readMessage[T any](r io.Reader, max int, v *T) error {
	b, err := wire.ReadFrame(r, max)
	if err != nil {
		return err
	}
	return wire.Unmarshal(b, v)
}

// messageBytes returns one frame with v in it.
func messageBytes(v any) ([]byte, error) {
	var b bytes.Buffer
	err := writeMessage(&b, v)
	return b.Bytes(), err
}

func writeMessage(w io.Writer, v any) error {
	b, err := wire.Marshal(v)
	if err != nil {
		return err
	}
	return wire.WriteFrame(w, b)
}
