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
	"math"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

const (
	// maxAnswer bounds what the client takes from the node at once: a list of
	// all the members there can be.
	maxAnswer = 16 << 20

	// maxHeader bounds the header of an answer.
	maxHeader = 64 << 10
)

// errEnded says that the node went away while it was asked.
var errEnded = errors.New("the node ended before it had answered")

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
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx) },
		MaxResponseHeaderBytes: maxHeader,
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
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err // without the address, which the directory tells
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

// Invites lists the invites that the node made.
func (c *Client) Invites(ctx context.Context) ([]InviteInfo, error) {
	return call[[]InviteInfo](ctx, c, http.MethodGet, "invites", nil)
}

// Revoke puts a member or an invite out of the mesh.
func (c *Client) Revoke(ctx context.Context, r Revocation) (Revoked, error) {
	return call[Revoked](ctx, c, http.MethodPost, "revocations", r)
}

// Leave gives up the node's membership. It returns once the node has ended.
func (c *Client) Leave(ctx context.Context) (Left, error) {
	return call[Left](ctx, c, http.MethodPost, "leave", nil)
}

// Whois tells of a member, given by name, peer ID or an address of it.
func (c *Client) Whois(ctx context.Context, who string) (Whois, error) {
	return call[Whois](ctx, c, http.MethodPost, "whois?member="+url.QueryEscape(who), nil)
}

// Ping measures one round trip to a member.
func (c *Client) Ping(ctx context.Context, member string) (Pong, error) {
	return call[Pong](ctx, c, http.MethodPost, "ping?member="+url.QueryEscape(member), nil)
}

// PingUpgrade is Ping that also has a better path looked for if that was a relay's.
func (c *Client) PingUpgrade(ctx context.Context, member string) (Pong, error) {
	return call[Pong](ctx, c, http.MethodPost, "ping?upgrade=yes&member="+url.QueryEscape(member), nil)
}

// Doctor tells what the node knows of the network it is in, after it has had others
// say again how they see it if that is asked for.
func (c *Client) Doctor(ctx context.Context, look bool) (Doctor, error) {
	return call[Doctor](ctx, c, fresh(look), "doctor", nil)
}

// Why tells what is known of the ways to a member, after they have been tried again if
// that is asked for.
func (c *Client) Why(ctx context.Context, member string, try bool) (Why, error) {
	return call[Why](ctx, c, fresh(try), "doctor?member="+url.QueryEscape(member), nil)
}

// fresh returns the method with which something is found out anew, or only told.
func fresh(yes bool) string {
	if yes {
		return http.MethodPost
	}
	return http.MethodGet
}

// Expose offers what listens at target as a service, to those that the rules
// are true of, or to all if there is none.
func (c *Client) Expose(ctx context.Context, service, target string, allow ...string) (Exposed, error) {
	return c.ExposeAs(ctx, Exposed{Service: service, Target: target, Allow: Rules(allow)})
}

// ExposeAs is Expose with what else there is to say of it.
func (c *Client) ExposeAs(ctx context.Context, x Exposed) (Exposed, error) {
	return call[Exposed](ctx, c, http.MethodPost, "exposed", x)
}

// Allow lets others use a service too.
func (c *Client) Allow(ctx context.Context, service string, who ...string) (Access, error) {
	return call[Access](ctx, c, http.MethodPost, "access", Access{Service: service, Allow: Rules(who)})
}

// Deny keeps some from a service.
func (c *Client) Deny(ctx context.Context, service string, who ...string) (Access, error) {
	return call[Access](ctx, c, http.MethodPost, "access", Access{Service: service, Deny: Rules(who)})
}

// Access tells who may use each service that the node offers.
func (c *Client) Access(ctx context.Context) ([]Access, error) {
	return call[[]Access](ctx, c, http.MethodGet, "access", nil)
}

// Rules makes rules of what was typed.
func Rules(texts []string) (out []Rule) {
	for _, text := range texts {
		out = append(out, Rule{Rule: text})
	}
	return out
}

// Unexpose withdraws a service.
func (c *Client) Unexpose(ctx context.Context, service string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "exposed?service="+url.QueryEscape(service), nil)
	return err
}

// Forward ties a local socket to a service.
func (c *Client) Forward(ctx context.Context, listen, target string) (Forward, error) {
	return c.ForwardAs(ctx, Forward{Listen: listen, Target: target})
}

// ForwardAs is Forward with what else there is to say of it.
func (c *Client) ForwardAs(ctx context.Context, f Forward) (Forward, error) {
	return call[Forward](ctx, c, http.MethodPost, "forwards", f)
}

// ForwardAll begins forwards, all or none.
func (c *Client) ForwardAll(ctx context.Context, all []Forward) ([]Forward, error) {
	if len(all) == 1 {
		f, err := c.ForwardAs(ctx, all[0])
		return []Forward{f}, err
	}
	return call[[]Forward](ctx, c, http.MethodPost, "forwards/several", all)
}

// Unforward ends a forward, named by the address that it listens at.
func (c *Client) Unforward(ctx context.Context, listen string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "forwards?listen="+url.QueryEscape(listen), nil)
	return err
}

// Proxy has a local socket be a proxy to all services.
func (c *Client) Proxy(ctx context.Context, p Proxy) (Proxy, error) {
	return call[Proxy](ctx, c, http.MethodPost, "proxies", p)
}

// Unproxy ends a proxy, named by the address that it listens at.
func (c *Client) Unproxy(ctx context.Context, listen string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "proxies?listen="+url.QueryEscape(listen), nil)
	return err
}

// Services tells what the node offers, and what others offer to it.
func (c *Client) Services(ctx context.Context) (Services, error) {
	return call[Services](ctx, c, http.MethodGet, "services", nil)
}

// Wait returns once something is so, or ctx ends.
func (c *Client) Wait(ctx context.Context, w Wait) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "wait", w)
	return err
}

// Reload has the node read its configuration file again.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	return call[Reloaded](ctx, c, http.MethodPost, "reload", nil)
}

// Down ends the node. It returns once the node has let go of its directory.
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
		return out, cause(ctx, err)
	}
	defer resp.Body.Close()
	answer := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode >= 400 {
		return out, readError(answer, resp.Status)
	}
	if resp.StatusCode == http.StatusNoContent {
		return out, nil
	}
	if err := json.NewDecoder(answer).Decode(&out); err != nil {
		return out, fmt.Errorf("read the node's answer: %w", cause(ctx, err))
	}
	return out, nil
}

// readError makes an error of an answer that says one.
func readError(r io.Reader, status string) error {
	var e Error
	if err := json.NewDecoder(r).Decode(&e); err != nil || e.Text == "" {
		return &Error{Version: Version, Code: CodeOther, Text: "the node answered " + status}
	}
	return &e
}

// cause takes off the request line, which says nothing to a user, and says in
// our words that ctx has ended or the node has.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return errEnded
	}
	return err
}

// DialOptions say what a stream may be like. The zero DialOptions are those of Dial.
type DialOptions struct {
	DirectOnly bool          // through no relay
	WaitDirect time.Duration // for a path that is none
	Plain      bool          // the stream ends with its connection
}

// Dial opens a stream to a target such as "alice/web" or "/web".
func (c *Client) Dial(ctx context.Context, target string) (*Conn, error) {
	return c.DialAs(ctx, target, DialOptions{})
}

// DialAs is Dial with what else there is to say of it.
func (c *Client) DialAs(ctx context.Context, target string, o DialOptions) (*Conn, error) {
	query := url.Values{"target": {target}}
	if o.DirectOnly {
		query.Set("direct", o.WaitDirect.String())
	}
	if o.Plain {
		query.Set("plain", "yes")
	}
	return c.dial(ctx, query)
}

func (c *Client) dial(ctx context.Context, query url.Values) (*Conn, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	stream, err := upgrade(conn, query)
	if !stop() || err != nil {
		conn.Close()
		return nil, cause(ctx, err)
	}
	return stream, nil
}

func upgrade(conn net.Conn, query url.Values) (*Conn, error) {
	req, err := http.NewRequest(http.MethodPost, "http://node/v1/dial?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", Protocol)
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	bounded := &io.LimitedReader{R: conn, N: maxHeader}
	r := bufio.NewReader(bounded)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, readError(resp.Body, resp.Status)
	}
	bounded.N = math.MaxInt64 // what follows is the stream
	stream := NewConn(conn, r)
	stream.Path = resp.Header.Get(PathHeader)
	return stream, nil
}
