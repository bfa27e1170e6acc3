package forward

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/pires/go-proxyproto"
)

// memberConn is a stream that a member opened.
type memberConn struct {
	net.Conn
	from netip.Addr
}

func (c memberConn) Origin() (name, id string, from netip.Addr) { return "bob", "12D3KooBob", c.from }

func TestHeader(t *testing.T) {
	tcp := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}
	for _, tt := range []struct {
		name      string
		accepted  net.Conn
		target    net.Addr
		src, dest string // nothing if the command is LOCAL
		member    bool
	}{
		{"IPv4", memberConn{from: netip.MustParseAddr("203.0.113.7")}, tcp, "203.0.113.7:0", "127.0.0.1:80", true},
		{"IPv4 within IPv6", memberConn{from: netip.MustParseAddr("::ffff:203.0.113.7")}, tcp, "203.0.113.7:0", "127.0.0.1:80", true},
		{"IPv6, to a target at IPv4", memberConn{from: netip.MustParseAddr("2001:db8::7")}, tcp, "[2001:db8::7]:0", "[::]:0", true},
		{"IPv4, to a unix socket", memberConn{from: netip.MustParseAddr("203.0.113.7")}, &net.UnixAddr{Name: "/s"}, "203.0.113.7:0", "0.0.0.0:0", true},
		{"no address", memberConn{}, tcp, "", "", true},
		{"no member", &net.TCPConn{}, tcp, "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := headerOf(tt.accepted, tt.target)
			if err != nil {
				t.Fatal(err)
			}
			r, w := net.Pipe()
			go func() {
				h.WriteTo(w)
				w.Close()
			}()
			got, err := proxyproto.Read(bufio.NewReader(r))
			if err != nil {
				t.Fatal(err)
			}
			if tt.src == "" && got.Command != proxyproto.LOCAL || tt.src != "" && (got.SourceAddr.String() != tt.src || got.DestinationAddr.String() != tt.dest) {
				t.Errorf("header says %v from %v to %v, want from %s to %s", got.Command, got.SourceAddr, got.DestinationAddr, tt.src, tt.dest)
			}
			values, err := got.TLVs()
			if err != nil {
				t.Fatal(err)
			}
			told := map[proxyproto.PP2Type]string{}
			for _, v := range values {
				told[v.Type] = string(v.Value)
			}
			if is := told[TypeMember] == "bob" && told[TypePeer] == "12D3KooBob"; is != tt.member {
				t.Errorf("values are %v, want those of bob: %v", told, tt.member)
			}
		})
	}
}

// The header is before all that the client sends, and in none of it.
func TestProxyProtocolThroughExpose(t *testing.T) {
	server := listenTCP(t)
	mesh := newMesh(t, "tcp")
	e, err := NewExpose(serviceOf(t, mesh), addressOf(t, server.Addr()), Config{ProxyProtocol: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	client, err := mesh.DialContext(t.Context(), "tcp", "alice/web")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	io.WriteString(client, "hello")
	client.(*net.TCPConn).CloseWrite()
	at, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	r := bufio.NewReader(at)
	if _, err := proxyproto.Read(r); err != nil {
		t.Errorf("read a header: %v", err)
	}
	if got, err := io.ReadAll(r); string(got) != "hello" || err != nil {
		t.Errorf("read %q, %v behind the header, want hello", got, err)
	}
}

func TestProxyProtocolWhereItCanNotBe(t *testing.T) {
	_, err := NewExpose(listenTCP(t), mustParse(t, "udp:53"), Config{ProxyProtocol: true})
	checkErr(t, err, "forward: target udp:127.0.0.1:53: Config.ProxyProtocol is for bytes alone")
	mesh := dialFunc(func(context.Context) (net.Conn, error) { return nil, io.EOF })
	_, err = NewForward(mesh, "alice/web", Address{}, Config{ProxyProtocol: true})
	checkErr(t, err, "Config.ProxyProtocol is for an Expose")
}
