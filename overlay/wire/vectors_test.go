package wire_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/p2pnode/p2pnode/overlay/wire"
	"github.com/p2pnode/p2pnode/overlay/wire/wiretest"
)

func TestVectorsFrame(t *testing.T) {
	var v []wiretest.Vector
	for _, body := range []string{"", "hello"} {
		var stream bytes.Buffer
		if err := wire.WriteFrame(&stream, []byte(body)); err != nil {
			t.Fatal(err)
		}
		v = append(v,
			wiretest.Vector{Name: "body", Value: hex.EncodeToString([]byte(body))},
			wiretest.Vector{Name: "frame", Value: hex.EncodeToString(stream.Bytes())})
	}
	wiretest.Golden(t, "frame", v)
}
