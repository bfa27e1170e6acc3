package lan

import "time"

// A pace bounds how often something is done in each second.
type pace struct {
	since time.Time
	count int
}

// pause counts one more. It returns how long there should be none, which is zero
// until there were as many as may be in this second.
func (p *pace) pause(now time.Time, most int) time.Duration {
	if now.Sub(p.since) >= time.Second {
		p.since, p.count = now, 0
	}
	if p.count++; p.count <= most {
		return 0
	}
	return p.since.Add(time.Second).Sub(now)
}
