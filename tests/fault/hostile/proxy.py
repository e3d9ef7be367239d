# SPDX-License-Identifier: Apache-2.0
"""A TLS proxy before a real Pebble that lets everything through but for one kind of answer.

Pebble makes its URLs from the Host header and checks the url of each JWS against it, so a proxy
that leaves Host as it is gives a real flow to all requests that are not to be spoilt.
"""

import base64
import http.client
import json
import socket
import ssl
import struct
import threading

# Where Pebble has what; the longer one first.
PATHS = (
    ("/dir", "directory"),
    ("/nonce-plz", "newNonce"),
    ("/sign-me-up", "newAccount"),
    ("/my-account/", "account"),
    ("/order-plz", "newOrder"),
    ("/authZ/", "authz"),
    ("/chalZ/", "challenge"),
    ("/my-order/", "order"),
    ("/finalize-order/", "finalize"),
    ("/revoke-cert", "revokeCert"),
)
SHUT = 1024 * 1024  # of a request, bytes


class Gone(Exception):
    """The client has closed."""


class Request:
    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body

    def payload(self):
        """Of the JWS in the body; b"" for POST-as-GET."""
        text = json.loads(self.body)["payload"]
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Flow:
    """One run of the client. @kind is the request whose answers @answer spoils."""

    def __init__(self, kind=None, answer=None, once=False, first=1):
        self.kind, self.answer, self.once, self.first = kind, answer, once, first
        self.lock = threading.Lock()
        self.counts = {}
        self.fired = 0
        self.total = 0
        self.finalized = False
        self.csr = None
        self.failed_order = False
        self.stopping = threading.Event()  # the client has ended: let go of what still hangs

    def classify(self, req):
        """The kind of request, and whether its answer is to be spoilt."""
        kind = "other"
        for path, name in PATHS:
            if req.path.startswith(path):
                kind = name
                break
        if req.path.startswith("/certZ/"):
            kind = "alternate" if "/alternate/" in req.path else "certificate"
        with self.lock:
            self.total += 1
            if kind == "order":
                kind = "orderAfter" if self.finalized else "orderBefore"
            if kind == "finalize":
                self.finalized = True
                self.csr = base64url(json.loads(req.payload())["csr"])
            if kind == "account" and req.payload():
                kind = "accountUpdate"
            if kind == "authz" and req.payload():
                kind = "authzDeactivate"
            elif kind == "authz" and self.failed_order:
                kind = "authzAfter"
            count = self.counts[kind] = self.counts.get(kind, 0) + 1
            spoil = kind == self.kind and count >= self.first
            if spoil and self.once and self.fired:
                spoil = False
            if spoil:
                self.fired += 1
        return kind, spoil


def base64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Exchange:
    """One request and what may be answered."""

    def __init__(self, slot, flow, sock, req, kind, upstream):
        self.slot, self.flow, self.sock, self.req = slot, flow, sock, req
        self.kind, self.upstream = kind, upstream

    def forward(self):
        """What Pebble says: (status, [(name, value)], body)."""
        if self.upstream.sock is None:
            self.upstream.connect()
        out = self.upstream
        out.putrequest(self.req.method, self.req.path, skip_host=True, skip_accept_encoding=True)
        out.putheader("Host", self.slot.host)
        for name, value in self.req.headers:
            if name.lower() not in ("host", "connection"):
                out.putheader(name, value)
        out.endheaders(self.req.body or None)
        got = out.getresponse()
        body = got.read()
        # Without it polls come early, and a case takes no longer than it has to.
        drop = ("retry-after", "content-length", "transfer-encoding", "connection")
        return got.status, [h for h in got.getheaders() if h[0].lower() not in drop], body

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (OSError, ValueError):
            raise Gone from None

    def head(self, status, headers, length):
        lines = ["HTTP/1.1 %d X" % status]
        lines += ["%s: %s" % h for h in headers]
        if length is not None:
            lines.append("Content-Length: %d" % length)
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def reply(self, status, headers, body, close=False):
        """A whole, well-formed answer."""
        if close:
            headers = headers + [("Connection", "close")]
        if status in (204, 304):
            self.send(self.head(status, headers, None))
        else:
            data = b"" if self.req.method == "HEAD" else body
            self.send(self.head(status, headers, len(body)) + data)
        return not close

    def hang(self, seconds=120):
        """Until the client gives up."""
        self.sock.settimeout(0.1)
        for _ in range(int(seconds * 10)):
            if self.flow.stopping.is_set():
                break
            try:
                if self.sock.recv(1) == b"":
                    break
            except (TimeoutError, ssl.SSLWantReadError):
                continue
            except OSError:
                break
        raise Gone


class Slot:
    """A port with its own storage and client ports: one case at a time."""

    def __init__(self, pebble, certificate, key, trust):
        self.pebble, self.trust = pebble, trust
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate, key)
        self.up = ssl.create_default_context(cafile=trust)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.base = "https://" + self.host
        self.flow = Flow()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.connection, args=(sock, self.flow), daemon=True).start()

    def connection(self, sock, flow):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(120)
        upstream = http.client.HTTPSConnection(*self.pebble, timeout=60, context=self.up)
        try:
            if flow.kind == "connect":
                flow.fired += 1
                flow.answer(self, flow, sock)
                return
            sock = self.tls.wrap_socket(sock, server_side=True)
            stream = sock.makefile("rb", buffering=16384)
            while self.one(sock, stream, flow, upstream):
                pass
        except (Gone, OSError, ValueError, http.client.HTTPException):
            pass
        finally:
            upstream.close()
            close(sock)

    def one(self, sock, stream, flow, upstream):
        req = read_request(stream)
        kind, spoil = flow.classify(req)
        x = Exchange(self, flow, sock, req, kind, upstream)
        if spoil:
            return flow.answer(x)
        status, headers, body = x.forward()
        if flow.kind in ("authzAfter", "authzDeactivate"):
            status, headers, body = fail_order(flow, kind, status, headers, body)
        return x.reply(status, headers, body)


def fail_order(flow, kind, status, headers, body):
    """What makes the client look at its authorizations once more: its order is invalid. For a
    deactivation it has to find one that is pending still."""
    if kind == "orderBefore":
        flow.failed_order = True
        body = json.dumps(dict(json.loads(body), status="invalid")).encode()
    elif kind == "authzAfter" and flow.kind == "authzDeactivate":
        body = json.dumps(dict(json.loads(body), status="pending")).encode()
    return status, headers, body


def read_request(stream):
    line = stream.readline(65536).decode("latin-1").split()
    if len(line) != 3:
        raise Gone
    headers, length = [], 0
    while True:
        text = stream.readline(65536).decode("latin-1").rstrip("\r\n")
        if not text:
            break
        name, _, value = text.partition(":")
        headers.append((name, value.strip()))
        if name.lower() == "content-length":
            length = int(value)
    if length > SHUT:
        raise ValueError("request of %d bytes" % length)
    return Request(line[0], line[1], headers, stream.read(length) if length else b"")


def close(sock, reset=False):
    try:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    except OSError:
        pass
