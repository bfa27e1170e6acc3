package e2e

import (
	"strings"
	"testing"
)

// Who records everything that two nodes send each other, from the join on, finds
// none of the names, the payload or the invite in it. The capture is shown to work
// by the same words over a plain connection, and by how much it has of each kind.
func TestWireTellsNothing(t *testing.T) {
	needs(t, "python3")
	out, err := inNamespace(t, captureScript)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, transport := range []string{"tcp", "quic", "ws"} {
		_, part, _ := strings.Cut(out, "begin "+transport+"\n")
		part, _, found := strings.Cut(part, "end "+transport+"\n")
		if !found || !strings.Contains(part, "enough packets") || !strings.Contains(part, "answer: the-payload-in-clear") {
			t.Errorf("%s: the capture says %q, want it to have seen the two nodes talk", transport, part)
		}
		for line := range strings.Lines(part) {
			if word, ok := strings.CutPrefix(line, "found "); ok {
				t.Errorf("%s: the capture has %s in clear", transport, strings.TrimSpace(word))
			}
		}
	}
	_, control, _ := strings.Cut(out, "begin control\n")
	for _, word := range []string{"mesh-text", "mesh-bytes", "alice", "bob", "service", "payload", "invite"} {
		if !strings.Contains(control, "found "+word+"\n") {
			t.Errorf("the capture does not find %s where it was sent in clear: %q", word, control)
		}
	}
}

// The service is behind a unix socket, and who uses it talks to its node over
// another, so that all on the network is between nodes.
const captureScript = `
cat > echo.py <<'END'
import os, socket, threading
s = socket.socket(socket.AF_UNIX); s.bind("/tmp/echo.sock"); s.listen()
def echo(c):
    while True:
        b = c.recv(65536)
        if not b: break
        c.sendall(b)
    c.close()
while True: threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()
END
cat > record.py <<'END'
import signal, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20) # SO_RCVBUFFORCE
s.bind(("lo", 0)); s.settimeout(0.2)
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
open("/tmp/recording", "w").close()
with open("/tmp/capture", "wb") as f:
    while True:
        try: f.write(s.recv(1 << 17))
        except socket.timeout:
            if ended: break
END
cat > search.py <<'END'
import base64, json, sys
ready = json.loads(open("/tmp/alice.json").readline()); data = open("/tmp/capture", "rb").read()
mesh = ready["mesh"]; invite = open("/tmp/invite").read().strip()
raw = base64.b32decode(mesh.upper() + "=" * (-len(mesh) % 8))
words = {"mesh-text": mesh.encode(), "mesh-bytes": raw, "alice": b"alice-name-in-clear", "bob": b"bob-name-in-clear",
         "service": b"service-in-clear", "payload": b"the-payload-in-clear", "invite": invite[20:60].encode()}
if sys.argv[1] == "send":
    import socket
    l = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(l.getsockname()); a = l.accept()[0]
    for w in words.values(): c.sendall(w); a.recv(4096)
    sys.exit()
for name, w in words.items():
    if w in data: print("found", name)
print("enough packets" if len(data) > 20000 else "only %d bytes" % len(data))
END
record() { rm -f recording; python3 record.py & recorder=$!; until [ -e recording ]; do sleep 0.02; done; }
recorded() { kill $recorder; wait $recorder || true; }
python3 echo.py & until [ -S echo.sock ]; do sleep 0.02; done

talk() {
	echo begin $1
	record
	p2pnode up --dir a$1 --name alice-name-in-clear --listen $2 --json > alice.json & alice=$!
	until p2pnode status --dir a$1 >/dev/null 2>&1; do sleep 0.02; done
	p2pnode invite --dir a$1 > invite
	p2pnode join invite --dir b$1 --name bob-name-in-clear --listen $2 --json > bob.json & bob=$!
	until p2pnode status --dir b$1 >/dev/null 2>&1; do sleep 0.02; done
	p2pnode expose service-in-clear unix:/tmp/echo.sock --dir a$1 >/dev/null
	p2pnode peers --dir b$1 >/dev/null
	echo "answer: $(echo the-payload-in-clear | p2pnode connect /service-in-clear --dir b$1)"
	p2pnode revoke bob-name-in-clear --dir a$1 >/dev/null
	wait $bob || true
	p2pnode down --dir a$1; wait $alice
	recorded
	python3 search.py look
	echo end $1
}
talk tcp /ip4/127.0.0.1/tcp/0
talk quic /ip4/127.0.0.1/udp/0/quic-v1
talk ws /ip4/127.0.0.1/tcp/0/ws
echo begin control
record
python3 search.py send
recorded
python3 search.py look
kill %1
`
