package portmaptest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for. It passes only when a test fails.
const patience = 30 * time.Second

// asker sends requests to a server and returns the answers.
type asker struct{ *net.UDPConn }

func start(t *testing.T, c Config) (*Server, asker) {
	t.Helper()
	s, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), c)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		s.Close()
	})
	return s, asker{conn}
}

// ask sends bytes in hex, and returns the answer without the count of time that
// begins at byte epoch.
func (a asker) ask(t *testing.T, request string, epoch int) string {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(request), ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write(b); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	n, err := a.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(buf[:n])
	clear(out[epoch : epoch+4])
	return hex.EncodeToString(out)
}

const (
	nonce  = "0102030405060708090a0b0c"
	self   = "00000000000000000000ffff7f000001"
	nobody = "00000000000000000000ffff00000000"
	zeros  = "000000000000000000000000"
)

func pcpMapRequest(nonce, lifetime, proto string) string {
	return "02010000" + lifetime + self + nonce + proto + "000000" + "0fa1" + "0000" + nobody
}

func pcpMapAnswer(code, lifetime, external, address string) string {
	return "028100" + code + lifetime + "00000000" + zeros + nonce + "11000000" + "0fa1" + external + address
}

func TestAnswers(t *testing.T) {
	const outside = "00000000000000000000ffffcb007107"
	refuse := func(err error) Config {
		return Config{External: netip.MustParseAddr("203.0.113.7"), Action: func(string, netip.AddrPort, uint16, time.Duration) error { return err }}
	}
	fine := refuse(nil)
	for _, tt := range []struct {
		name     string
		config   Config
		request  string
		want     string
		mappings int
	}{
		{"NAT-PMP address", fine, "0000", "008000000000 0000 cb007107", 0},
		{"NAT-PMP address, offline", Config{}, "0000", "008000030000 0000 00000000", 0},
		{"NAT-PMP UDP", fine, "00010000 0fa1 1388 00000e10", "008100000000 0000 0fa1 1388 00000e10", 1},
		{"NAT-PMP TCP, for short", Config{MaxLifetime: time.Minute}, "00020000 0fa1 0000 00000e10", "008200000000 0000 0fa1 0fa1 0000003c", 1},
		{"NAT-PMP end", fine, "00010000 0fa1 0000 00000000", "008100000000 0000 0fa1 0000 00000000", 0},
		{"NAT-PMP opcode", fine, "0009", "008900050000 0000", 0},
		{"NAT-PMP refused", refuse(errors.New("no")), "00010000 0fa1 1388 00000e10", "008100040000 0000 0fa1 0000 00000000", 0},
		{"NAT-PMP refused with", refuse(Code(2)), "00010000 0fa1 1388 00000e10", "008100020000 0000 0fa1 0000 00000000", 0},
		{"PCP announce", fine, "0200000000000000" + self, "0280000000000000 00000000" + zeros, 0},
		{"PCP map", fine, pcpMapRequest(nonce, "00000e10", "11"), pcpMapAnswer("00", "00000e10", "0fa1", outside), 1},
		{"PCP end", fine, pcpMapRequest(nonce, "00000000", "11"), pcpMapAnswer("00", "00000000", "0000", nobody), 0},
		{"PCP offline", Config{}, pcpMapRequest(nonce, "00000e10", "11"), pcpMapAnswer("07", "00000000", "0000", nobody), 0},
		{"PCP refused", refuse(errors.New("no")), pcpMapRequest(nonce, "00000e10", "11"), pcpMapAnswer("08", "00000000", "0000", nobody), 0},
		{"PCP opcode", fine, "0209000000000000" + self, "0289000400000000 00000000" + zeros, 0},
		{"PCP from behind another NAT", fine, "0200000000000000" + nobody, "0280000c00000000 00000000" + zeros, 0},
		{"PCP cut short", fine, "0201000000000000" + self, "0281000300000000 00000000" + zeros, 0},
		{"PCP of the future", fine, "0300000000000000" + self, "0280000100000000 00000000" + zeros, 0},
		{"PCP that isn't there", Config{NoPCP: true}, "0200000000000000" + self, "008000010000 0000", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, a := start(t, tt.config)
			want := strings.Join(strings.Fields(tt.want), "")
			epoch := 4
			if strings.HasPrefix(want, "02") {
				epoch = 8
			}
			if got := a.ask(t, tt.request, epoch); got != want {
				t.Errorf("answer =\n%s, want\n%s", got, want)
			}
			if got := s.Mappings(); len(got) != tt.mappings {
				t.Errorf("Mappings() = %v, want %d", got, tt.mappings)
			}
		})
	}
}

func TestMappingIsItsNonces(t *testing.T) {
	_, a := start(t, Config{External: netip.MustParseAddr("203.0.113.7")})
	a.ask(t, pcpMapRequest(nonce, "00000e10", "11"), 8)
	other := strings.Replace(nonce, "01", "ff", 1)
	for _, lifetime := range []string{"00000e10", "00000000"} {
		if got := a.ask(t, pcpMapRequest(other, lifetime, "11"), 8); got[6:8] != "02" {
			t.Errorf("another's request is answered with %s, want 02, not authorized", got[6:8])
		}
	}
	if got := a.ask(t, pcpMapRequest(nonce, "00000e10", "11"), 8); got[6:8] != "00" {
		t.Errorf("its own request is answered with %s, want 00", got[6:8])
	}
}

func TestMappingEndsInTime(t *testing.T) {
	ended := make(chan Mapping, 1)
	s, a := start(t, Config{Action: func(proto string, internal netip.AddrPort, external uint16, lifetime time.Duration) error {
		if lifetime == 0 {
			ended <- Mapping{Proto: proto, Internal: internal, External: external}
		}
		return nil
	}})
	a.ask(t, "00010000 0fa1 1388 00000001", 4)
	select {
	case m := <-ended:
		if m.Proto != "udp" || m.External != 5000 {
			t.Errorf("ended %v, want udp 5000", m)
		}
	case <-time.After(patience):
		t.Fatal("a mapping for a second has no end")
	}
	if got := s.Mappings(); len(got) != 0 {
		t.Errorf("Mappings() = %v, want none", got)
	}
}

func TestRebootForgets(t *testing.T) {
	s, a := start(t, Config{})
	a.ask(t, "00010000 0fa1 1388 00000e10", 4)
	before := s.epoch()
	s.Reboot()
	if got := s.Mappings(); len(got) != 0 || s.epoch() >= before {
		t.Errorf("after a reboot there is %v at %d, want none and less than %d", got, s.epoch(), before)
	}
}
