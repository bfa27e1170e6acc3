package lan

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

const (
	// What was said holds for so long. After half of it, it is said again to
	// the next who asks.
	ttl = 20 * time.Minute

	// A box is used until it has grown old: who knows it need not open it again.
	boxUse = 15 * time.Minute

	// A new node speaks up and asks a few times, as packets get lost and an IPv6
	// address takes a second or two to become usable. Then it asks but rarely,
	// and not at all if another asked the same: of many nodes on a link one asks.
	askRarely = 60 * time.Second // and up to half of it more

	// Answers to one question come one by one, and the same node answers no more
	// than twice a second, whoever asks: RFC 6762 says once, but then of two that
	// come one behind the other the second would wait for longer than a second.
	answerAfter, answerSpread = 20 * time.Millisecond, 100 * time.Millisecond
	answerAfterMore           = 400 * time.Millisecond // the rest of a question may have us in it
	answerPause               = 500 * time.Millisecond

	// In a crowd some answer who does not know any of it, and it is heard by all:
	// if all answered, each newcomer would cost the square of their number.
	crowd = 32
)

// askSoon is when a new node asks and speaks up, after its start.
var askSoon = []time.Duration{0, time.Second, 4 * time.Second, 13 * time.Second, 40 * time.Second}

// speakUp is at how many of these times it speaks up, too.
const speakUp = 3

// A speech is what this node does on one link.
type speech struct {
	link
	answerAt time.Time  // zero: nobody asked
	asker    netip.Addr // whose question is answered
	more     bool       // which is not all said

	knownBy    netip.Addr // who is in the midst of a question that has us in it
	knownUntil time.Time
	answered   time.Time // at last

	box     []byte // that is shown
	boxedAt time.Time
	addrs   []multiaddr.Multiaddr // in it
}

// An outgoing is a packet to send.
type outgoing struct {
	link link
	data []byte
}

// talk is the protocol of a node: what it says, when, and what it makes of what
// it hears. It does no I/O and keeps no clock: time comes in with each call.
type talk struct {
	hearing
	instance string // a name that was never used before
	addrs    func() []multiaddr.Multiaddr

	links   map[int]*speech
	number  uint32 // of the last box
	started time.Time
	asked   int // times since then
	askAt   time.Time
	askedAt time.Time
	soonAt  time.Time // when it last asked out of turn
}

// restart begins anew on the given links: it speaks up and asks on each.
func (t *talk) restart(links []link, now time.Time) {
	old := t.links
	t.links = map[int]*speech{}
	for _, l := range links {
		s := &speech{link: l}
		if o := old[l.index]; o != nil {
			s.answered = o.answered
		}
		t.links[l.index] = s
	}
	t.hearing.restart(t.links, now)
	t.started, t.asked, t.askAt = now, 0, now
}

// next returns when tick has something to do; zero means never.
func (t *talk) next() time.Time {
	if len(t.links) == 0 {
		return time.Time{}
	}
	next := t.askAt
	for _, s := range t.links {
		if !s.answerAt.IsZero() && s.answerAt.Before(next) {
			next = s.answerAt
		}
	}
	return next
}

// tick returns what is to be said by now.
func (t *talk) tick(now time.Time) []outgoing {
	var out []outgoing
	asks := len(t.links) > 0 && !now.Before(t.askAt)
	for _, s := range t.links {
		speaksUp := asks && t.asked < speakUp
		answers := !s.answerAt.IsZero() && !now.Before(s.answerAt)
		if answers {
			s.answerAt, s.answered = time.Time{}, now
		}
		if speaksUp || answers {
			out = append(out, t.say(s, ttl, now)...)
		}
		if asks {
			out = append(out, t.ask(s, now)...)
		}
	}
	if asks {
		t.expire(now)
		t.asked++
		t.askedAt = now
		t.askLater(now)
	}
	return out
}

// askLater sets when to ask next.
func (t *talk) askLater(now time.Time) {
	if t.asked < len(askSoon) {
		t.askAt = t.started.Add(askSoon[t.asked])
		if t.askAt.After(now) {
			return
		}
	}
	t.askAt = now.Add(askRarely + rand.N(askRarely/2))
}

// ask asks who is there and not yet known.
func (t *talk) ask(s *speech, now time.Time) []outgoing {
	var out []outgoing
	known := t.known(s.index, now)
	for first := true; first || len(known) > 0; first = false {
		part := known[:min(len(known), maxKnown)]
		known = known[len(part):]
		if data, err := packQuestion(part, uint32(ttl/time.Second), len(known) > 0); err == nil {
			out = append(out, outgoing{s.link, data})
		}
	}
	return out
}

// say shows the box of a link, a new one if there is something new.
func (t *talk) say(s *speech, life time.Duration, now time.Time) []outgoing {
	addrs := toTell(t.addrs(), s.link)
	if len(addrs) == 0 {
		return nil // a node without an address on the link can't be dialed there
	}
	if s.box == nil || now.Sub(s.boxedAt) > boxUse || !sameAddrs(addrs, s.addrs) {
		t.number++
		s.box = t.boxes.seal(t.instance, note{peer: t.self, addrs: addrs, number: t.number}, now)
		s.boxedAt, s.addrs = now, addrs
	}
	return pack(s, answer{t.instance, uint32(life / time.Second), s.box})
}

// leave says goodbye on each link where anything was said.
func (t *talk) leave(now time.Time) []outgoing {
	var out []outgoing
	for _, s := range t.links {
		if s.box != nil {
			t.number++
			box := t.boxes.seal(t.instance, note{peer: t.self, number: t.number}, now)
			out = append(out, pack(s, answer{t.instance, 0, box})...)
		}
	}
	return out
}

func pack(s *speech, a answer) []outgoing {
	data, err := packAnswer(a)
	if err != nil {
		return nil // no instance or box of ours is too long
	}
	return []outgoing{{s.link, data}}
}

// receive takes in a packet. It returns whom to tell the user of.
func (t *talk) receive(p packet, now time.Time) []peer.AddrInfo {
	s := t.heardOn(p)
	if s == nil {
		return nil // from another network
	}
	m, ok := parse(p.data)
	switch {
	case !ok && aboutUs(p.data):
		t.stats.garbage.Add(1)
	case ok && m.question:
		t.receiveQuestion(s, p.from, m, now)
	case ok:
		return t.receiveAnswers(s, p.from, m.answers, now)
	}
	return nil
}

// heardOn returns on which link a packet came, if from a neighbour there.
func (t *talk) heardOn(p packet) *speech {
	for _, s := range t.links {
		known := p.index == s.index || p.index == 0 && (p.from.Zone() == "" || p.from.Zone() == s.name)
		if known && s.has(p.from.WithZone("")) {
			return s
		}
	}
	return nil
}

func (t *talk) receiveAnswers(s *speech, from netip.Addr, all []answer, now time.Time) []peer.AddrInfo {
	var news []peer.AddrInfo
	for _, a := range all {
		if a.instance == t.instance {
			continue
		}
		if info, ok := t.hear(s.link, from, a, now); ok {
			news = append(news, info)
		}
	}
	return news
}

func (t *talk) receiveQuestion(s *speech, from netip.Addr, m message, now time.Time) {
	switch {
	case slices.Contains(m.known, t.instance):
		if s.more && s.asker == from {
			s.answerAt = time.Time{} // it turned out not to be asked
		}
		if m.more {
			s.knownBy, s.knownUntil = from, now.Add(answerAfterMore)
		}
	case s.knownBy == from && now.Before(s.knownUntil):
		// The rest of a question that had us in it.
	case s.answerAt.IsZero() && t.answers(m):
		t.answerSoon(s, from, m.more, now)
	}
	if t.asked < len(askSoon) {
		return // a new one asks whatever others ask
	}
	switch {
	case t.knows(s.index, slices.DeleteFunc(m.known, func(i string) bool { return i == t.instance })):
		t.askLater(now) // it asked for this node too
	case now.Sub(t.askedAt) > askRarely/2 && now.Sub(t.soonAt) > askRarely/2:
		// Others know more. If they always ask first, this node never would.
		t.soonAt = now
		t.askAt = now.Add(rand.N(10 * time.Second))
	}
}

// answers tells whether this node is one of those of a crowd that answer.
func (t *talk) answers(m message) bool {
	n := len(t.all)
	return m.more || len(m.known) > 0 || n <= crowd || rand.N(n) < crowd
}

func (t *talk) answerSoon(s *speech, asker netip.Addr, more bool, now time.Time) {
	after := answerAfter
	if more {
		after = answerAfterMore
	}
	s.answerAt = now.Add(after + rand.N(answerSpread))
	if earliest := s.answered.Add(answerPause); s.answerAt.Before(earliest) {
		s.answerAt = earliest
	}
	s.asker, s.more = asker, more
}
