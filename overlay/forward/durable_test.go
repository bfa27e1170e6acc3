package forward_test

import (
	"bytes"
	"io"
	"testing"
)

// Bytes through a forward arrive as they are by durable and by plain streams, and are
// all counted.
func TestForwardOfMuch(t *testing.T) {
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(i * 31 >> 5)
	}
	for _, plain := range []bool{false, true} {
		f, client, server := throughForward(t, plain)
		go func() {
			_, _ = client.Write(data) // if it fails, bytes are missing below
			_ = client.CloseWrite()
		}()
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("plain %v: read %d bytes, %v, want the %d that were sent", plain, len(got), err, len(data))
		}
		if sent := f.Stats().Sent; sent != uint64(len(data)) {
			t.Errorf("plain %v: Sent = %d, want %d", plain, sent, len(data))
		}
	}
}
