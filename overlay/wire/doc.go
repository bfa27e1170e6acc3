// Package wire says how p2pnode's own messages become bytes: one strict form of
// CBOR, and frames that carry it over a stream.
//
// [Marshal] and [Unmarshal] are for anything that is signed, stored or sent. A
// message has exactly one encoding: Unmarshal refuses every other, so two nodes
// can never read the same bytes differently, and nothing can be added to a
// signed message that its reader would not see.
//
// [WriteFrame] and [ReadFrame] put a length before a message. The reader names
// the most it will take, and nothing longer is given memory.
//
//	type hello struct {
//		Service string `cbor:"1,keyasint"`
//	}
//	data, err := wire.Marshal(hello{Service: "web"})
//	if err != nil {
//		return err
//	}
//	return wire.WriteFrame(stream, data)
//
// Structs use small integer keys as above, or `cbor:",toarray"` where they will
// never get another field. A field may have omitempty or omitzero. Pointers, any
// and raw messages weaken what Unmarshal promises and have no place in a
// message: a raw message, for one, is passed through unchecked.
//
// Deadlines are the caller's: a stream has them, a reader does not. The rules
// are written down for other implementations in docs/protocol.md.
package wire
