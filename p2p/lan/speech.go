package lan

import (
	"math/rand/v2"
	"net/netip"
	"time"

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

	// In a crowd about so many answer one question: if all did, and all heard it,
	// newcomers would cost the square of their number. Who asks hears from the
	// others when it asks again, and all of them heard it speak up.
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
	asker    netip.Addr // whose question is answered, in the family that it came by
	more     bool       // which is not all said
	answered time.Time  // at last

	knownBy    netip.Addr // who is in the midst of a question that has us in it
	knownUntil time.Time

	// Since this node asked, or might have:
	spared bool // another has asked the same
	lacks  bool // another has shown to know more

	box     []byte // that is shown
	boxedAt time.Time
	addrs   []multiaddr.Multiaddr // in it
}

// An outgoing is a packet to send, in those families that the link knows.
type outgoing struct {
	link     link
	families []family
	data     []byte
}

var both = []family{v4, v6}

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
		answers := !s.answerAt.IsZero() && !now.Before(s.answerAt)
		if answers {
			s.answerAt, s.answered = time.Time{}, now
		}
		switch {
		case asks && t.asked < speakUp:
			out = append(out, t.say(s, both, now)...)
		case answers:
			out = append(out, t.say(s, []family{familyOf(s.asker)}, now)...)
		}
		if asks && (!s.spared || s.lacks) {
			out = append(out, t.ask(s, now)...)
		}
		if asks {
			s.spared, s.lacks = false, false
		}
	}
	if asks {
		t.expire(now)
		t.asked++
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
	families := both
	if t.asked > 0 && s.speaks(v4) && s.speaks(v6) {
		families = both[t.asked%2:][:1] // most neighbours hear both: by turns is enough
	}
	var out []outgoing
	known := t.known(s.index, now)
	for first := true; first || len(known) > 0; first = false {
		part := known[:min(len(known), maxKnown)]
		known = known[len(part):]
		if data, err := packQuestion(part, uint32(ttl/time.Second), len(known) > 0); err == nil {
			out = append(out, outgoing{s.link, families, data})
		}
	}
	return out
}

// say shows the box of a link, a new one if there is something new.
func (t *talk) say(s *speech, families []family, now time.Time) []outgoing {
	addrs := toTell(t.addrs(), s.link)
	if len(addrs) == 0 {
		return nil // a node without an address on the link can't be dialed there
	}
	if s.box == nil || now.Sub(s.boxedAt) > boxUse || !sameAddrs(addrs, s.addrs) {
		t.number++
		s.box = t.boxes.seal(t.instance, note{peer: t.self, addrs: addrs, number: t.number}, now)
		s.boxedAt, s.addrs = now, addrs
	}
	return pack(s, families, answer{t.instance, uint32(ttl / time.Second), s.box})
}

// leave says goodbye on each link where anything was said.
func (t *talk) leave(now time.Time) []outgoing {
	var out []outgoing
	for _, s := range t.links {
		if s.box != nil {
			t.number++
			box := t.boxes.seal(t.instance, note{peer: t.self, number: t.number}, now)
			out = append(out, pack(s, both, answer{t.instance, 0, box})...)
		}
	}
	return out
}

func pack(s *speech, families []family, a answer) []outgoing {
	data, err := packAnswer(a)
	if err != nil {
		return nil // no instance or box of ours is too long
	}
	return []outgoing{{s.link, families, data}}
}
