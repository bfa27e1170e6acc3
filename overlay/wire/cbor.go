package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// ErrMalformed is what [Unmarshal] returns, with its reason, for bytes that are
// not the one encoding of a message. Trying again is of no use.
var ErrMalformed = errors.New("malformed message")

// MaxSize is the most bytes a message has, and so the most that fit a frame.
const MaxSize = 1<<16 - 1

// The limits inside a message. The deepest message there is, an invite, is
// nested four levels; the longest list is far below the limit.
const (
	maxNesting  = 8
	maxElements = 1024
	maxPairs    = 64
)

// The options are constant and none contradicts another, so there is no error
// to handle; a test holds them to that.
var (
	encoder, _ = encOptions().EncMode()
	decoder, _ = decOptions().DecMode()
)

func encOptions() cbor.EncOptions {
	opts := cbor.CoreDetEncOptions()
	opts.TagsMd = cbor.TagsForbidden
	// A list without elements has one form, whether Go holds it as nil or not.
	opts.NilContainers = cbor.NilContainerAsEmpty
	return opts
}

func decOptions() cbor.DecOptions {
	return cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   maxNesting,
		MaxArrayElements:  maxElements,
		MaxMapPairs:       maxPairs,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		UTF8:              cbor.UTF8RejectInvalid,
		NaN:               cbor.NaNDecodeForbidden,
		Inf:               cbor.InfDecodeForbidden,
	}
}

// Marshal returns the one encoding of v. It refuses what would be longer than
// [MaxSize], and types that CBOR has no form for.
func Marshal(v any) ([]byte, error) {
	data, err := encoder.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("encode %T: %d bytes; a message has at most %d", v, len(data), MaxSize)
	}
	return data, nil
}

// Unmarshal decodes data, which must be all of a message and nothing more, into
// v. It returns an error that is [ErrMalformed], and leaves v as it was, unless
// data is exactly what [Marshal] gives for the outcome: so keys are sorted and
// none is twice, missing or unknown, and every integer and length has its
// shortest form. Tags, null and indefinite lengths are refused too.
//
// Unmarshal keeps no reference to data. It bounds size, nesting and list length
// but knows no meaning: the caller checks the values.
func Unmarshal[T any](data []byte, v *T) error {
	if len(data) > MaxSize {
		return fmt.Errorf("%w: %d bytes; at most %d", ErrMalformed, len(data), MaxSize)
	}
	var got T
	if err := decoder.Unmarshal(data, &got); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	again, err := encoder.Marshal(got)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("%w: not in canonical form, or a field is missing or of another length", ErrMalformed)
	}
	*v = got
	return nil
}
