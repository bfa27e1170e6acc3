package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/p2pnode/p2pnode/cmd/p2pnode/internal/control"
	"github.com/p2pnode/p2pnode/overlay"
	"github.com/p2pnode/p2pnode/overlay/forward"
	"github.com/p2pnode/p2pnode/p2p"
)

// dial opens a stream and ties it to the request's connection.
func (d *Daemon) dial(w http.ResponseWriter, r *http.Request, target string) {
	d.streams.Add(1) // before the server forgets the connection
	defer d.streams.Done()
	t, err := overlay.ParseTarget(target)
	if err != nil {
		d.writeError(w, err)
		return
	}
	ctx, err := dialContext(r)
	if err != nil {
		d.writeError(w, err)
		return
	}
	carry, err := d.carrier(w, r)
	if err != nil {
		d.writeError(w, err)
		return
	}
	stream, err := d.mesh.DialTarget(ctx, t)
	if err != nil {
		d.writeError(w, err)
		return
	}
	if err := carry(stream); err != nil {
		d.log.Debug("stream broke", "service", target, "err", err)
	}
}

// carrier returns what carries a stream as the request wants it.
func (d *Daemon) carrier(w http.ResponseWriter, r *http.Request) (func(*overlay.Conn) error, error) {
	if err := wantNoBody(r); err != nil {
		return nil, err
	}
	switch protocol := r.Header.Get("Upgrade"); {
	case strings.EqualFold(protocol, control.Protocol):
		return func(s *overlay.Conn) error { return d.carry(w, s) }, nil
	case strings.EqualFold(protocol, control.ProtocolRaw):
		return func(s *overlay.Conn) error { return d.carryRaw(w, s) }, nil
	default:
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", control.ProtocolRaw+", "+control.Protocol)
		return nil, badRequestf("%w: Upgrade %.80q: want %s or %s", errUpgrade, protocol, control.ProtocolRaw, control.Protocol)
	}
}

// carry carries a stream in chunks.
func (d *Daemon) carry(w http.ResponseWriter, stream *overlay.Conn) error {
	socket, buf, err := upgrade(w, control.Protocol, stream.Path(), "")
	if err != nil {
		stream.Reset()
		return err
	}
	conn := control.NewConn(socket, buf)
	if err = forward.Join(d.ctx, untold{conn}, stream); err != nil {
		d.tell(conn, err)
	}
	return err
}

// carryRaw carries a stream as it is. Why it broke is known before the client sees that
// it is over.
func (d *Daemon) carryRaw(w http.ResponseWriter, stream *overlay.Conn) error {
	id := d.raw.begin()
	socket, buf, err := upgrade(w, control.ProtocolRaw, stream.Path(), id)
	if err != nil {
		d.raw.end(id, nil)
		stream.Reset()
		return err
	}
	defer socket.Close()
	err = sendAhead(stream, buf)
	if err == nil {
		err = forward.Join(d.ctx, rawConn{socket}, stream)
	} else {
		stream.Reset()
	}
	d.raw.end(id, d.reason(err))
	return err
}

// sendAhead sends what the client has sent before it was answered: no more than the
// server's buffer takes.
func sendAhead(stream net.Conn, buf *bufio.Reader) error {
	if buf.Buffered() == 0 {
		return nil
	}
	ahead, err := buf.Peek(buf.Buffered())
	if err == nil {
		_, err = stream.Write(ahead)
	}
	return err
}

// A rawConn is the connection of a client that does not know yet that the stream broke.
type rawConn struct{ *net.UnixConn }

// Reset wakes whoever waits on the connection. It is closed by carryRaw, later.
func (c rawConn) Reset() error { return c.SetDeadline(time.Unix(1, 0)) }

// dialContext returns a request's context, with which is dialed as is asked for: past
// relays, or for a stream that ends with its connection.
func dialContext(r *http.Request) (context.Context, error) {
	ctx := r.Context()
	if query(r, "plain") != "" {
		ctx = p2p.Plain(ctx)
	}
	asked := query(r, "direct")
	if asked == "" {
		return ctx, nil
	}
	wait, err := time.ParseDuration(asked)
	if err != nil || wait < 0 {
		return nil, badRequestf("direct %.80q: not how long to wait for a direct path", asked)
	}
	return p2p.WaitDirect(ctx, wait), nil
}

// An untold is a stream to a command that is still to be told why it breaks.
type untold struct{ *control.Conn }

// Reset wakes whoever waits on the stream.
func (u untold) Reset() error { return u.SetDeadline(time.Unix(1, 0)) }

// tell gives a stream to a command up, and tells why if that is more than that
// it broke.
func (d *Daemon) tell(conn *control.Conn, err error) {
	why := d.reason(err)
	lost := errors.Is(err, p2p.ErrTimeLimit) || errors.Is(err, p2p.ErrUnknownStream)
	switch code := why.Code; {
	case lost, code == control.CodeRevoked, code == control.CodeExpired, code == control.CodeNotPermitted, code == control.CodeNotMember:
		err = conn.Abort(why)
	default:
		err = conn.Reset()
	}
	if err != nil {
		d.log.Debug("tell that a stream broke", "err", err)
	}
}

// reason says why a stream broke, nil if it did not.
func (d *Daemon) reason(err error) *control.Error {
	if err == nil {
		return nil
	}
	if out := d.mesh.Err(); out != nil && !errors.Is(out, net.ErrClosed) {
		err = out
	} else if cause := errors.Unwrap(err); cause != nil {
		err = cause // without the ends of the joint, which say nothing to a user
	}
	code, _ := codeOf(err)
	return &control.Error{Version: control.Version, Code: code, Text: err.Error()}
}

// upgrade takes a request's connection for a stream.
func upgrade(w http.ResponseWriter, protocol string, path p2p.Path, id string) (*net.UnixConn, *bufio.Reader, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("a control socket of %T", conn), conn.Close())
	}
	fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %v\r\n", protocol, control.PathHeader, path)
	if id != "" {
		fmt.Fprintf(buf, "%s: %s\r\n", control.StreamHeader, id)
	}
	fmt.Fprint(buf, "\r\n")
	if err := buf.Flush(); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return socket, buf.Reader, nil
}
