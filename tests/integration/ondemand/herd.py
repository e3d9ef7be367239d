# SPDX-License-Identifier: Apache-2.0
"""herd.py PORT NAME CLIENTS STALLED: that many connections at once that want NAME, from 200 addresses, amid
others that stall: half of them silent, half after half a ClientHello. The first 200 clients go through the
handshake, the others read whether a ServerHello or an alert comes. Prints what became of them:

    served N, refused N, other N, certificates N, stalled N of N closed in S s

Without STALLED (0) it does not wait for any."""

import collections
import hashlib
import selectors
import socket
import ssl
import sys
import time

PATIENCE_S = 60
WHOLE = 200


class Client:
    def __init__(self, port, name, number, whole):
        self.out, self.inward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = CONTEXT.wrap_bio(self.inward, self.out, server_hostname=name)
        self.whole = whole
        self.result = None
        self.cert = None
        self.sock = connect(port, number)
        self.step()

    def step(self):
        try:
            self.tls.do_handshake()
            self.cert = hashlib.sha256(self.tls.getpeercert(True)).hexdigest()
            self.result = "served"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as e:
            self.result = "refused" if "ALERT" in str(e).upper() or "UNRECOGNIZED" in str(e) else "other"
        data = self.out.read()
        if data:
            try:
                self.sock.sendall(data)
            except OSError:
                self.result = self.result or "other"

    def read(self):
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.result = "other"
        elif self.whole:
            self.inward.write(data)
            self.step()
        else:
            self.result = {0x15: "refused", 0x16: "served"}.get(data[0], "other")


def connect(port, number):
    s = socket.socket()
    s.bind((f"127.0.9.{number % 200 + 1}", 0))
    s.settimeout(20)
    s.connect(("127.0.0.1", port))
    s.setblocking(False)
    return s


def stall(port, number, hello):
    s = connect(port, number)
    if number % 2:
        s.sendall(hello[:len(hello) // 2])
    return s


def wait(socks, done, until):
    """Call done(key.data) for what can be read, until it has said True for all."""
    sel = selectors.DefaultSelector()
    for s, data in socks:
        sel.register(s, selectors.EVENT_READ, (s, data))
    while sel.get_map() and time.monotonic() < until:
        for key, _ in sel.select(1):
            if done(key.data[1]):
                sel.unregister(key.fileobj)
                key.data[0].close()
    left = len(sel.get_map())
    sel.close()
    return left


def client_done(c):
    c.read()
    return c.result is not None


def stalled_done(s):
    try:
        return not s.recv(4096)  # an alert may come before the end
    except BlockingIOError:
        return False
    except OSError:
        return True


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE


def main():
    port, name = int(sys.argv[1]), sys.argv[2]
    clients, stalled = int(sys.argv[3]), int(sys.argv[4])
    out = ssl.MemoryBIO()
    try:
        CONTEXT.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = out.read()
    began = time.monotonic()
    slow = [stall(port, i, hello) for i in range(stalled)]
    herd = [Client(port, name, i, i < WHOLE) for i in range(clients)]
    wait([(c.sock, c) for c in herd if c.result is None], client_done, began + PATIENCE_S)
    left = wait([(s, s) for s in slow], stalled_done, began + PATIENCE_S)
    took = time.monotonic() - began
    got = collections.Counter(c.result or "other" for c in herd)
    certs = len({c.cert for c in herd if c.cert})
    print(f"served {got['served']}, refused {got['refused']}, other {got['other']}, certificates {certs}, "
          f"stalled {stalled - left} of {stalled} closed in {took:.1f} s")


main()
