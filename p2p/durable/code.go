package durable

import "errors"

// Why a stream is over, as one end tells the other. A code that is not known is as
// CodeReset.
const (
	CodeReset      = 0 // it was given up
	CodeUnknown    = 1 // there is no such stream
	CodeNoListener = 2 // nobody listens for its protocol
	CodeProtocol   = 3 // the other end sent what no end may send
	CodeTimeLimit  = 4 // no carrier was found in time
	CodeClosed     = 5 // the node was closed
	CodeBusy       = 6 // there are too many streams
)

// CodeOf returns the code for why an end is over. One that is done, with no error, is
// known no more.
func CodeOf(err error) uint32 {
	switch {
	case err == nil || errors.Is(err, ErrUnknown):
		return CodeUnknown
	case errors.Is(err, ErrProtocol):
		return CodeProtocol
	case errors.Is(err, ErrTimeLimit):
		return CodeTimeLimit
	}
	return CodeReset
}
