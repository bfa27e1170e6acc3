package portmap

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// A device is a router that speaks UPnP.
type device struct {
	kind     string // of its service
	external string
	control  string // where it says to be controlled, instead of at itself
	huge     bool   // its description has no end
	conflict int    // how many ports are taken
	noLease  bool

	mu    sync.Mutex
	ports map[string]string // external port and protocol to who has it
}

const wanIP = "urn:schemas-upnp-org:service:WANIPConnection:1"

// start returns where it is searched for.
func (d *device) start(t *testing.T) netip.AddrPort {
	t.Helper()
	d.ports = map[string]string{}
	web := httptest.NewServer(d)
	t.Cleanup(web.Close)
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if strings.HasPrefix(string(buf[:n]), "M-SEARCH * HTTP/1.1\r\n") {
				for _, text := range []string{"nonsense", found("http://192.0.2.99/root.xml"), found(web.URL + "/root.xml")} {
					_, _ = conn.WriteToUDPAddrPort([]byte(text), from)
				}
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		wg.Wait()
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func found(location string) string {
	return "HTTP/1.1 200 OK\r\nST: " + igdType + "\r\nUSN: uuid:1\r\nLOCATION: " + location + "\r\n\r\n"
}

func (d *device) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.URL.Path == "/root.xml" {
		d.describe(w)
		return
	}
	_, action, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPACTION"), `"`), "#")
	var in struct {
		Body struct {
			Action struct {
				NewExternalPort, NewProtocol, NewInternalPort, NewInternalClient, NewLeaseDuration string
			} `xml:",any"`
		}
	}
	if err := xml.NewDecoder(r.Body).Decode(&in); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a := in.Body.Action
	where := a.NewExternalPort + "/" + a.NewProtocol
	out := ""
	switch action {
	case "GetExternalIPAddress":
		out = "<NewExternalIPAddress>" + d.external + "</NewExternalIPAddress>"
	case "DeletePortMapping":
		delete(d.ports, where)
	case "AddPortMapping":
		switch {
		case d.noLease && a.NewLeaseDuration != "0":
			fault(w, codePermanent)
			return
		case d.conflict > 0:
			d.conflict--
			fault(w, codeConflict)
			return
		}
		d.ports[where] = a.NewInternalClient + ":" + a.NewInternalPort
	}
	envelope(w, fmt.Sprintf(`<u:%sResponse xmlns:u="%s">%s</u:%sResponse>`, action, d.kind, out, action))
}

func (d *device) describe(w http.ResponseWriter) {
	control := d.control
	if control == "" {
		control = "/control"
	}
	fmt.Fprintf(w, `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>%s</deviceType>`, igdType)
	for d.huge {
		if _, err := w.Write(make([]byte, 1<<16)); err != nil {
			return
		}
	}
	fmt.Fprintf(w, `<serviceList><service><serviceType>%s</serviceType><controlURL>%s</controlURL></service></serviceList></device></root>`,
		d.kind, control)
}

func envelope(w http.ResponseWriter, body string) {
	fmt.Fprintf(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>%s</s:Body></s:Envelope>`, body)
}

func fault(w http.ResponseWriter, code int) {
	w.WriteHeader(http.StatusInternalServerError)
	envelope(w, fmt.Sprintf(`<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>`+
		`<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode></UPnPError></detail></s:Fault>`, code))
}

func TestUPnP(t *testing.T) {
	for _, tt := range []struct {
		name   string
		device *device
		code   int    // that the mapping is refused with
		err    string // of the probe; empty means success
	}{
		{"version 1", &device{kind: wanIP, external: "203.0.113.7"}, 0, ""},
		{"version 2", &device{kind: "urn:schemas-upnp-org:service:WANIPConnection:2", external: "203.0.113.7"}, 0, ""},
		{"PPP", &device{kind: "urn:schemas-upnp-org:service:WANPPPConnection:1", external: "203.0.113.7"}, 0, ""},
		{"a port that is taken", &device{kind: wanIP, external: "203.0.113.7", conflict: 1}, 0, ""},
		{"mappings without end", &device{kind: wanIP, external: "203.0.113.7", noLease: true}, 0, ""},
		{"all ports taken", &device{kind: wanIP, external: "203.0.113.7", conflict: 99}, codeConflict, ""},
		{"offline", &device{kind: wanIP, external: ""}, 0, errUseless.Error()},
		{"a name for an address", &device{kind: wanIP, external: "localhost"}, 0, errUseless.Error()},
		{"a light bulb", &device{kind: "urn:schemas-upnp-org:service:Bulb:1"}, 0, "nothing that maps ports"},
		{"controlled elsewhere", &device{kind: wanIP, control: "http://192.0.2.99/control"}, 0, "nothing that maps ports"},
		{"no end", &device{kind: wanIP, huge: true}, 0, "description"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := &upnp{up: home, targets: []netip.AddrPort{tt.device.start(t)}}
			_, err := u.probe(testContext(t))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("probe = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			a := ask{proto: UDP, port: 4001, lifetime: time.Hour}
			r, err := u.request(testContext(t), a)
			if tt.code != 0 {
				checkAnswer(t, err, tt.code, nil)
				return
			}
			if err != nil || r.external.Addr() != outside {
				t.Fatalf("request = %v, %v, want an address of %v", r.external, err, outside)
			}
			where := fmt.Sprintf("%d/UDP", r.external.Port())
			if got := tt.device.ports[where]; got != "127.0.0.1:4001" {
				t.Errorf("the router's %s leads to %q, want 127.0.0.1:4001", where, got)
			}
			a.lifetime, a.suggested = 0, r.external
			if _, err := u.request(testContext(t), a); err != nil || len(tt.device.ports) != 0 {
				t.Errorf("the end of it = %v, and the router has %v, want none", err, tt.device.ports)
			}
		})
	}
}

func TestSearchHearsTheGatewayAlone(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
	}{
		{"the gateway", found("http://192.168.1.1:5000/root.xml"), "http://192.168.1.1:5000/root.xml"},
		{"another", found("http://192.168.1.2:5000/root.xml"), ""},
		{"a name", found("http://router/root.xml"), ""},
		{"a file", found("file:///etc/passwd"), ""},
		{"none", "HTTP/1.1 200 OK\r\nST: " + igdType + "\r\n\r\n", ""},
		{"a refusal", "HTTP/1.1 404 No\r\nST: " + igdType + "\r\nLOCATION: http://192.168.1.1/\r\n\r\n", ""},
		{"another kind", strings.ReplaceAll(found("http://192.168.1.1/"), "InternetGateway", "Bulb"), ""},
		{"a search", "M-SEARCH * HTTP/1.1\r\n\r\n", ""},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseAnswer([]byte(tt.in), netip.MustParseAddr("192.168.1.1"))
			if tt.want == "" {
				if !errors.Is(err, errOther) {
					t.Errorf("parseAnswer = %v, %v, want %v", got, err, errOther)
				}
				return
			}
			if err != nil || got.String() != tt.want {
				t.Errorf("parseAnswer = %v, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestClientTalksToTheGatewayAlone(t *testing.T) {
	var other device
	web := httptest.NewServer(&other)
	defer web.Close()
	moved := httptest.NewServer(http.RedirectHandler(web.URL, http.StatusFound))
	defer moved.Close()
	for gateway, where := range map[string]string{"192.0.2.1": web.URL, "127.0.0.1": moved.URL} {
		at, err := url.Parse(where)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fetch(testContext(t), clientOf(netip.MustParseAddr(gateway)), at); err == nil {
			t.Errorf("fetch from %s with gateway %s = nil error, want one", at, gateway)
		}
	}
}
