package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// maxAnswer bounds what the client takes from the node at once: a list of all
// the members there can be.
const maxAnswer = 16 << 20

// A Client asks a running node. Its methods may be called from several
// goroutines at once.
type Client struct {
	path string
	http *http.Client
}

// Open returns a client of the node that runs on a directory. The error is
// [ErrNotRunning] if none does.
func Open(dir string) (*Client, error) {
	path, err := SocketPath(dir)
	if err != nil {
		return nil, err
	}
	c := &Client{path: path}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx) },
	}}
	conn, err := c.connect(context.Background())
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", dir, err)
	}
	return c, conn.Close()
}

func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNotRunning
	}
	return conn, err
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status describes the node.
func (c *Client) Status(ctx context.Context) (Node, error) {
	return call[Node](ctx, c, http.MethodGet, "status", nil)
}

// Members returns the members that the node knows of, itself included.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	return call[[]Member](ctx, c, http.MethodGet, "members", nil)
}

// Invite returns the text that lets others join.
func (c *Client) Invite(ctx context.Context, o InviteOptions) (Invite, error) {
	return call[Invite](ctx, c, http.MethodPost, "invites", o)
}

// Ping measures one round trip to a member.
func (c *Client) Ping(ctx context.Context, member string) (Pong, error) {
	return call[Pong](ctx, c, http.MethodPost, "ping/"+url.PathEscape(member), nil)
}

// Expose offers what listens at target as a service.
func (c *Client) Expose(ctx context.Context, service, target string) (Exposed, error) {
	return call[Exposed](ctx, c, http.MethodPost, "exposed", Exposed{Service: service, Target: target})
}

// Unexpose withdraws a service.
func (c *Client) Unexpose(ctx context.Context, service string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "exposed/"+url.PathEscape(service), nil)
	return err
}

// Forward ties a local socket to a service.
func (c *Client) Forward(ctx context.Context, listen, target string) (Forward, error) {
	return call[Forward](ctx, c, http.MethodPost, "forwards", Forward{Listen: listen, Target: target})
}

// Unforward ends a forward, named by the address that it listens at.
func (c *Client) Unforward(ctx context.Context, listen string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "forwards/"+url.PathEscape(listen), nil)
	return err
}

// Down ends the node. It returns once the node has begun to.
func (c *Client) Down(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "down", nil)
	return err
}

// call makes a request and decodes the answer.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (out T, err error) {
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			return out, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://node/v1/"+path, &b)
	if err != nil {
		return out, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return out, lastCause(err)
	}
	defer resp.Body.Close()
	answer := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode >= 400 {
		return out, readError(answer, resp.Status)
	}
	if resp.StatusCode == http.StatusNoContent {
		return out, nil
	}
	err = json.NewDecoder(answer).Decode(&out)
	return out, err
}

func readError(r io.Reader, status string) error {
	var e Error
	if err := json.NewDecoder(r).Decode(&e); err != nil || e.Text == "" {
		return &Error{Version: Version, Code: CodeOther, Text: "the node answered " + status}
	}
	return &e
}

// lastCause takes off the request line, which says nothing to a user.
func lastCause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Protocol is what a connection is upgraded to that carries a stream's bytes.
const Protocol = "p2pnode-stream"

// A Conn is a stream to a service, through the node.
type Conn struct {
	*net.UnixConn
	r    *bufio.Reader
	Path string // the stream's
}

func (c *Conn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Dial opens a stream to a target such as "alice/web" or "/web".
func (c *Client) Dial(ctx context.Context, target string) (*Conn, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	stream, err := upgrade(conn.(*net.UnixConn), target)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return stream, nil
}

func upgrade(conn *net.UnixConn, target string) (*Conn, error) {
	req, err := http.NewRequest(http.MethodPost, "http://node/v1/dial/"+strings.TrimPrefix(target, "/"), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", Protocol)
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, readError(io.LimitReader(resp.Body, maxAnswer), resp.Status)
	}
	return &Conn{UnixConn: conn, r: r, Path: resp.Header.Get("P2pnode-Path")}, nil
}
