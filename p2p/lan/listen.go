package lan

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

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
	t.heed(s, m)
}

// heed makes use of what another asks: it may save this node from asking.
func (t *talk) heed(s *speech, m message) {
	others := slices.DeleteFunc(m.known, func(i string) bool { return i == t.instance })
	soon := t.asked < len(askSoon)
	switch {
	case t.asked == 0 || soon && len(others) == 0:
		// What new nodes do not know yet is no measure of what there is.
	case soon && len(t.all) <= crowd:
		// So few may as well all ask, which mends losses.
	case t.knows(s.index, others):
		s.spared = true
	case !soon:
		s.lacks = true // if others always ask first, this node would never know
	}
}

// answers tells whether this node is one of those of a crowd that answer.
func (t *talk) answers(m message) bool {
	n := len(t.all) - len(m.known) // who may, as far as it can be seen from here
	return n <= crowd || rand.N(n) < crowd
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
