package p2p

import (
	"testing"
	"time"
)

func TestTraffic(t *testing.T) {
	began := time.Now()
	for _, tt := range []struct {
		name string
		log  func(*traffic)
		want bool
	}{
		{"nothing", func(*traffic) {}, false},
		{"little goes out", func(t *traffic) { t.LogSentMessageStream(muchAtOnce-1, "", "a") }, false},
		{"little comes in", func(t *traffic) { t.LogRecvMessageStream(1, "", "a") }, false},
		{"much goes out", func(t *traffic) { t.LogSentMessageStream(muchAtOnce, "", "a") }, true},
		{"much comes in", func(t *traffic) { t.LogRecvMessageStream(muchAtOnce, "", "a") }, true},
		{"to another", func(t *traffic) { t.LogSentMessageStream(muchAtOnce, "", "b") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newTraffic()
			tt.log(w)
			if got := w.since("a", began); got != tt.want {
				t.Errorf("since = %v, want %v", got, tt.want)
			}
			if w.since("a", time.Now().Add(time.Hour)) {
				t.Error("since an hour from now = true, want false")
			}
		})
	}
}
