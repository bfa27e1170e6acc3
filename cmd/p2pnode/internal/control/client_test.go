package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func checkErr(t *testing.T, call string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s = %v, want an error with %q", call, err, want)
	}
}

func TestOpenWhereNoNodeRuns(t *testing.T) {
	stale := shortDir(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(stale, socketFile)})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, tt := range []struct{ name, dir string }{
		{"empty directory", shortDir(t)},
		{"no directory", filepath.Join(shortDir(t), "none")},
		{"socket that a killed node left", stale},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(tt.dir)
			if !errors.Is(err, ErrNotRunning) {
				t.Errorf("Open(%s) = %v, want %v", tt.dir, err, ErrNotRunning)
			}
			checkErr(t, "Open", err, "directory "+tt.dir+": ")
		})
	}
}

func TestOpenOfWhatIsNoDirectory(t *testing.T) {
	file := filepath.Join(shortDir(t), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(file)
	checkErr(t, "Open(file)", err, "not a directory")
	_, err = Open(strings.Repeat("x", maxSocketPath))
	checkErr(t, "Open(long path)", err, "choose a shorter directory")
}

const jsonHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(net.Conn)
		want   string // substring of the error
	}{
		{"none", say(""), "the node ended before it had answered"},
		{"not HTTP", say("\x00\x01\x02 garbage\r\n\r\n"), "malformed HTTP"},
		{"header cut off", say("HTTP/1.1 200 OK\r\nContent-"), "malformed"},
		{"no JSON", say(jsonHead + "Content-Length: 5\r\n\r\nhello"), "read the node's answer: invalid character 'h'"},
		{"JSON of another shape", say(jsonHead + "Content-Length: 2\r\n\r\n[]"), "read the node's answer: json: cannot unmarshal array"},
		{"JSON cut off", say(jsonHead + "Content-Length: 50\r\n\r\n{\"v\":1,"), "the node ended before it had answered"},
		{"failure without a reason", say("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops"), "the node answered 500 Internal Server Error"},
		{"failure with a reason", say("HTTP/1.1 404 Not Found\r\n\r\n" + `{"v":1,"code":"not-found","error":"there is none"}`), "there is none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := openFake(t, tt.answer).Status(testContext(t))
			checkErr(t, "Status", err, tt.want)
			_, err = openFake(t, tt.answer).Members(testContext(t))
			if tt.name != "JSON of another shape" {
				checkErr(t, "Members", err, tt.want)
			}
		})
	}
}

func TestRefusalHasACode(t *testing.T) {
	c := openFake(t, say("HTTP/1.1 404 Not Found\r\n\r\n"+`{"v":1,"code":"unknown-member","error":"no such member: bob"}`))
	_, pingErr := c.Ping(testContext(t), "bob")
	_, dialErr := c.Dial(testContext(t), "bob/web")
	for call, err := range map[string]error{"Ping": pingErr, "Dial": dialErr} {
		var answered *Error
		if !errors.As(err, &answered) || answered.Code != CodeUnknownMember || err.Error() != "no such member: bob" {
			t.Errorf("%s = %#v, want what the node answered", call, err)
		}
	}
}

// What the node sends is not kept in memory beyond a bound, if it is a node.
func TestAnswersAreBounded(t *testing.T) {
	much := strings.Repeat("x", 1<<16)
	for _, tt := range []struct {
		name, start string
		most        int
	}{
		{"header", "HTTP/1.1 200 OK\r\nX: ", 16 * maxHeader}, // the socket's buffers included
		{"body", jsonHead + "\r\n\"", 2 * maxAnswer},
		{"failure", "HTTP/1.1 500 Internal Server Error\r\n\r\n\"", 2 * maxAnswer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			taken := make(chan int, 1)
			c := openFake(t, flood(tt.start, much, taken))
			if _, err := c.Status(testContext(t)); err == nil {
				t.Error("Status = nil, want an error")
			}
			if n := <-taken; n > tt.most {
				t.Errorf("Status took %d bytes, want at most %d", n, tt.most)
			}
		})
	}
}

func TestDialAnswersAreBounded(t *testing.T) {
	for _, start := range []string{"HTTP/1.1 101 Switching Protocols\r\nX: ", "HTTP/1.1 404 Not Found\r\n\r\n\""} {
		taken := make(chan int, 1)
		c := openFake(t, flood(start, strings.Repeat("x", 1<<16), taken))
		if _, err := c.Dial(testContext(t), "alice/web"); err == nil {
			t.Error("Dial = nil, want an error")
		}
		if n := <-taken; n > 16*maxHeader { // the socket's buffers included
			t.Errorf("Dial took %d bytes of %q, want at most %d", n, start, 16*maxHeader)
		}
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	asked := make(chan struct{}, 1)
	c := openFake(t, func(conn net.Conn) {
		asked <- struct{}{}
		silent(conn)
	})
	why := errors.New("enough")
	for name, call := range map[string]func(context.Context) error{
		"Status": func(ctx context.Context) error { _, err := c.Status(ctx); return err },
		"Down":   c.Down,
		"Dial":   func(ctx context.Context) error { _, err := c.Dial(ctx, "alice/web"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(testContext(t))
			defer cancel(nil)
			ended := make(chan error, 1)
			go func() { ended <- call(ctx) }()
			<-asked
			cancel(why)
			if err := <-ended; !errors.Is(err, why) {
				t.Errorf("%s = %v, want %v", name, err, why)
			}
		})
	}
}

func TestNodeThatEndsIsNotRunning(t *testing.T) {
	dir := shortDir(t)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l.Close()
	if _, err := c.Status(testContext(t)); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Status = %v, want %v", err, ErrNotRunning)
	}
	if _, err := c.Dial(testContext(t), "alice/web"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial = %v, want %v", err, ErrNotRunning)
	}
}

// The names of members and addresses go through as they are.
func TestArgumentsArriveAsTheyAre(t *testing.T) {
	got := make(chan string, 1)
	dir := serveHTTP(t, got)
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, arg := range []string{"alice", "", "..", "a/b", "unix:/run/x.sock", "a b&c=d%2f?#", "ü\x00"} {
		for _, tt := range []struct {
			call, key string
			do        func()
		}{
			{"Ping", "member", func() { _, _ = c.Ping(testContext(t), arg) }},
			{"Unexpose", "service", func() { _ = c.Unexpose(testContext(t), arg) }},
			{"Unforward", "listen", func() { _ = c.Unforward(testContext(t), arg) }},
			{"Dial", "target", func() { _, _ = c.Dial(testContext(t), arg) }},
		} {
			tt.do()
			if got := <-got; got != tt.key+"="+arg {
				t.Errorf("%s(%q) asks for %q", tt.call, arg, got)
			}
		}
	}
}
