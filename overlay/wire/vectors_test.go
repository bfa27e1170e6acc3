package wire_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/p2pnode/p2pnode/overlay/wire"
	"github.com/p2pnode/p2pnode/overlay/wire/wiretest"
)

func TestVectorsFrame(t *testing.T) {
	frame := func(body string) string {
		var stream bytes.Buffer
		if err := wire.WriteFrame(&stream, []byte(body)); err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(stream.Bytes())
	}
	wiretest.Golden(t, "frame", []wiretest.Vector{
		{Name: "frame of nothing", Value: frame("")},
		{Name: "body", Value: hex.EncodeToString([]byte("hello"))},
		{Name: "frame", Value: frame("hello")},
	})
}
