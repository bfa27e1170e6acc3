package forward

import (
	"errors"
	"syscall"
	"testing"
)

// The far end must not take a target that is down for an empty answer.
func TestUnreachableTargetResetsStream(t *testing.T) {
	for _, tt := range []struct {
		name   string
		target func(t *testing.T) Address
		want   error
	}{
		{"port without listener", func(t *testing.T) Address {
			ln := listenTCP(t)
			ln.Close()
			return addressOf(t, ln.Addr())
		}, syscall.ECONNREFUSED},
		{"unix socket that is not there", func(t *testing.T) Address {
			return mustParse(t, unixPrefix+t.TempDir()+"/s")
		}, syscall.ENOENT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := pair(t, "tcp")
			mesh := newMuxMesh(t, a, b)
			target := tt.target(t)
			e, err := NewExpose(serviceOf(t, mesh), target, Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			stream, err := mesh.DialContext(t.Context(), "", "alice/web")
			if err != nil {
				t.Fatal(err)
			}
			wantReset(t, stream)
			err = e.Stats().LastError
			checkErr(t, err, "dial "+target.String()+": ")
			if !errors.Is(err, tt.want) {
				t.Errorf("LastError = %v, want %v", err, tt.want)
			}
		})
	}
}
