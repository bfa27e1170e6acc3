package netwatch

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPollSaysEachFewSecondsThatItMayHaveChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoll()
		n := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.run(func() { n++ }, func() { t.Error("a machine that is awake slept") })
		}()
		pass(time.Minute + time.Second)
		p.close()
		p.close()
		<-done
		if n != 12 {
			t.Errorf("in a minute it was said %d times, want 12", n)
		}
	})
}

func TestPollReadsTheLoopback(t *testing.T) {
	p := newPoll()
	defer p.close()
	s, err := p.read()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range s.Interfaces {
		for _, a := range i.Addrs {
			if a.Addr().IsLoopback() {
				return
			}
		}
	}
	t.Errorf("read() = %v, want the loopback among them", s)
}
