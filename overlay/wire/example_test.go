package wire_test

import (
	"bytes"
	"fmt"

	"github.com/p2pnode/p2pnode/overlay/wire"
)

type hello struct {
	Service string `cbor:"1,keyasint"`
	Version uint8  `cbor:"2,keyasint,omitempty"`
}

func Example() {
	var stream bytes.Buffer

	data, err := wire.Marshal(hello{Service: "web"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := wire.WriteFrame(&stream, data); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%x\n", stream.Bytes())

	data, err = wire.ReadFrame(&stream, 256)
	if err != nil {
		fmt.Println(err)
		return
	}
	var got hello
	if err := wire.Unmarshal(data, &got); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(got.Service)
	// Output:
	// 0006a10163776562
	// web
}

// A message has one encoding: here the version, which is zero, should have been
// left out.
func ExampleUnmarshal() {
	var got hello
	err := wire.Unmarshal([]byte{0xa2, 0x01, 0x63, 'w', 'e', 'b', 0x02, 0x00}, &got)
	fmt.Println(err)
	// Output: malformed message: not in canonical form, or a field is missing or of another length
}
