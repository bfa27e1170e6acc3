"""Join a mesh from Python, with the standard library alone.

A node has to run on this machine, see "p2pnode up". This talks to it over the socket in
its directory, as docs/openapi.yaml says.

    python3 examples/python/mesh.py serve greet        offers a service, until Ctrl-C
    python3 examples/python/mesh.py call alice/greet   uses that of a member
    python3 examples/python/mesh.py call /greet        uses that of the nearest

What it serves reads a name to its end, and answers with a greeting.
"""

import http.client
import json
import os
import socket
import socketserver
import sys

DIRECTORY = os.environ.get("P2PNODE_DIR", os.path.expanduser("~/.config/p2pnode"))


class Node(http.client.HTTPConnection):
    """The node, as a server that is reached by a unix socket."""

    def __init__(self):
        super().__init__("node")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.path.join(DIRECTORY, "control.sock"))


def ask(method, path, body=None):
    """Asks the node, and returns what it answers."""
    node = Node()
    node.request(method, path, json.dumps(body) if body is not None else None)
    answer = node.getresponse()
    text = answer.read()
    value = json.loads(text) if text else None
    if answer.status >= 400:
        sys.exit(value["error"])
    return value


class Stream:
    """A stream to a service: the bytes go as they are."""

    def __init__(self, target):
        node = Node()
        node.connect()
        self.socket = node.sock
        path = "/v1/dial/" + target.removeprefix("/")
        self.socket.sendall(
            f"POST {path} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: p2pnode-raw\r\n\r\n".encode()
        )
        self.reader = self.socket.makefile("rb")
        status = self.reader.readline().split()[1]
        header = http.client.parse_headers(self.reader)
        if status != b"101":
            sys.exit(json.loads(self.reader.read(int(header["Content-Length"])))["error"])
        self.id = header["P2pnode-Stream"]

    def write(self, data):
        self.socket.sendall(data)

    def end(self):
        """Tells the other end that no more will be written."""
        self.socket.shutdown(socket.SHUT_WR)

    def read(self):
        """Reads to the end. A stream that broke looks as if it had ended, so it asks."""
        try:
            data = self.reader.read()
        except ConnectionResetError:
            data = b""
        outcome = ask("GET", "/v1/streams/" + self.id)
        if outcome["state"] == "broken":
            sys.exit("the stream broke: " + outcome["error"]["error"])
        return data


class Greeter(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"hello " + self.rfile.read())


def serve(service):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeter) as server:
        ask("POST", "/v1/exposed", {"service": service, "target": "127.0.0.1:%d" % server.server_address[1]})
        print("serving", service, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            ask("DELETE", "/v1/exposed?service=" + service)


def call(target):
    stream = Stream(target)
    stream.write(b"python")
    stream.end()
    print(stream.read().decode())


if len(sys.argv) != 3 or sys.argv[1] not in ("serve", "call"):
    sys.exit(__doc__)
{"serve": serve, "call": call}[sys.argv[1]](sys.argv[2])
