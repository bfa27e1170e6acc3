package lan

import (
	"bytes"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// What goes over the wire is DNS-SD (RFC 6763) over mDNS (RFC 6762), of which a
// node says the least that others need: one PTR record from the service to the
// instance and one TXT record of the instance, which holds a box. There is no SRV
// and no address record, for they would say in clear what is in the box.
const (
	service = "_p2pnode._udp.local."

	// The TXT record is of strings of a key of one letter, "=", and a part of the
	// box: a=..., b=..., in this order.
	maxString = 255
	maxPart   = maxString - 2

	instanceLen = 16

	// Of the other side's messages: what has more is not from a node.
	maxKnown   = 36 // 31 bytes each, so that a question fits in a packet
	maxAnswers = 8

	cacheFlush = 1 << 15 // of the class of a record that has one owner
)

var serviceName = dnsmessage.MustNewName(service)

// A message is what a node asks or says.
type message struct {
	question bool
	more     bool     // the instances that are known go on in another message
	known    []string // with a question: who need not answer
	answers  []answer
}

// An answer is an instance and what it says of itself.
type answer struct {
	instance string
	ttl      uint32 // seconds; 0 is a goodbye
	box      []byte
}

func instanceName(instance string) (dnsmessage.Name, error) {
	return dnsmessage.NewName(instance + "." + service)
}

// packQuestion asks for all instances but those that are known.
func packQuestion(known []string, ttl uint32, more bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Truncated: more})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	q := dnsmessage.Question{Name: serviceName, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	for _, instance := range known {
		if err := addPointer(&b, instance, ttl); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// packAnswer says what is in a.
func packAnswer(a answer) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{Response: true, Authoritative: true})
	b.EnableCompression()
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	if err := addPointer(&b, a.instance, a.ttl); err != nil {
		return nil, err
	}
	name, err := instanceName(a.instance)
	if err != nil {
		return nil, err
	}
	h := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET | cacheFlush, TTL: a.ttl}
	if err := b.TXTResource(h, dnsmessage.TXTResource{TXT: toStrings(a.box)}); err != nil {
		return nil, err
	}
	return b.Finish()
}

func addPointer(b *dnsmessage.Builder, instance string, ttl uint32) error {
	name, err := instanceName(instance)
	if err != nil {
		return err
	}
	h := dnsmessage.ResourceHeader{Name: serviceName, Class: dnsmessage.ClassINET, TTL: ttl}
	return b.PTRResource(h, dnsmessage.PTRResource{PTR: name})
}

// parse reads a message of whoever is on the link. It is false for what is none
// of ours, which is most of what is said on a link, and for what is malformed.
func parse(packet []byte) (message, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil || h.OpCode != 0 || h.RCode != 0 {
		return message{}, false
	}
	m := message{question: !h.Response, more: h.Truncated}
	asked, err := asksForUs(&p)
	if err != nil || m.question && !asked {
		return message{}, false
	}
	for range maxKnown + maxAnswers {
		r, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil || m.addRecord(&p, r) != nil {
			return message{}, false
		}
	}
	return m, m.question || len(m.answers) > 0
}

// asksForUs reads all questions.
func asksForUs(p *dnsmessage.Parser) (asked bool, err error) {
	for range maxAnswers {
		q, err := p.Question()
		if err == dnsmessage.ErrSectionDone {
			return asked, nil
		}
		if err != nil {
			return false, err
		}
		if q.Type == dnsmessage.TypePTR && strings.EqualFold(q.Name.String(), service) {
			asked = true
		}
	}
	return asked, p.SkipAllQuestions()
}

// addRecord reads one record of the answers.
func (m *message) addRecord(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) error {
	switch {
	case m.question && h.Type == dnsmessage.TypePTR:
		r, err := p.PTRResource()
		if err != nil {
			return err
		}
		if instance, ok := instanceOf(r.PTR); ok {
			m.known = append(m.known, instance)
		}
		return nil
	case !m.question && h.Type == dnsmessage.TypeTXT:
		instance, ok := instanceOf(h.Name)
		if !ok {
			return p.SkipAnswer()
		}
		r, err := p.TXTResource()
		if err != nil {
			return err
		}
		if box, ok := fromStrings(r.TXT); ok && len(m.answers) < maxAnswers {
			m.answers = append(m.answers, answer{instance, h.TTL, box})
		}
		return nil
	}
	return p.SkipAnswer()
}

// instanceOf returns which instance of the service has the name.
func instanceOf(name dnsmessage.Name) (string, bool) {
	s := name.String()
	if len(s) != instanceLen+1+len(service) || s[instanceLen] != '.' || !strings.EqualFold(s[instanceLen+1:], service) {
		return "", false
	}
	instance := s[:instanceLen]
	return instance, strings.Trim(instance, "0123456789abcdef") == ""
}

func toStrings(box []byte) []string {
	var out []string
	for key := byte('a'); len(box) > 0; key++ {
		n := min(len(box), maxPart)
		out = append(out, string(key)+"="+string(box[:n]))
		box = box[n:]
	}
	return out
}

func fromStrings(all []string) ([]byte, bool) {
	var box []byte
	for i, s := range all {
		if len(box)+len(s) > maxBox+2 || len(s) <= 2 || s[:2] != string(rune('a'+i))+"=" {
			return nil, false
		}
		box = append(box, s[2:]...)
	}
	return box, len(box) > boxOverhead
}

// Behind its header, each of our messages begins with the name of the service,
// which tells it from the rest before it is taken apart: most of what is said on
// a link is about printers.
const (
	headerLen = 12
	beginning = "\x08_p2pnode\x04_udp"
)

func aboutUs(packet []byte) bool {
	return len(packet) > headerLen && bytes.HasPrefix(packet[headerLen:], []byte(beginning))
}
