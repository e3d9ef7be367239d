# SPDX-License-Identifier: Apache-2.0
"""Answers that are wrong as bytes on a connection: slow, endless, cut, lying about their length."""

import gzip
import io
import struct
import time

from proxy import Gone, close

JSON = ("Content-Type", "application/json")
BLOCK = b"{" + b" " * 65535
WIRE = []  # (name, function, expectation, slow)


def wire(name, expect="any", slow=False):
    def add(function):
        WIRE.append((name, function, expect, slow))
        return function

    return add


def endless(x, block, limit):
    """Up to @limit bytes; a client that takes them all is at fault, which its memory shows."""
    for _ in range(limit // len(block)):
        x.send(block)
        if x.flow.stopping.is_set():
            break
    raise Gone


@wire("body endless", "refuse")
def body_endless(x):
    x.send(x.head(200, [JSON, ("Connection", "close")], None))
    endless(x, BLOCK, 256 << 20)


@wire("body endless, chunked", "refuse")
def body_chunked(x):
    x.send(x.head(200, [JSON, ("Transfer-Encoding", "chunked")], None))
    endless(x, b"10000\r\n" + BLOCK + b"\r\n", 256 << 20)


@wire("1 GB announced", "refuse")
def announced(x):
    x.send(x.head(200, [JSON], 1 << 30))
    endless(x, BLOCK, 256 << 20)


@wire("gzip bomb", "refuse")
def bomb(x):
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9) as f:
        for _ in range(256):
            f.write(BLOCK)
    return x.reply(200, [JSON, ("Content-Encoding", "gzip")], out.getvalue())


@wire("1 byte a second", "refuse", slow=True)
def drip_body(x):
    x.send(x.head(200, [JSON], 4096))
    drip(x, b"{" + b" " * 600)


@wire("slow header", "refuse", slow=True)
def drip_header(x):
    drip(x, b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 600)


def drip(x, data):
    for i in range(len(data)):
        x.send(data[i : i + 1])
        if x.flow.stopping.wait(0.9):
            break
    raise Gone


@wire("no answer", "refuse", slow=True)
def stall(x):
    x.hang()


@wire("header line of 1 MB", "refuse")
def header_line(x):
    x.send(b"HTTP/1.1 200 OK\r\nX: ")
    endless(x, b"y" * 65536, 1 << 20)


@wire("10^5 header lines", "refuse")
def header_count(x):
    x.send(b"HTTP/1.1 200 OK\r\n")
    endless(x, b"X: y\r\n" * 10000, 600000)


@wire("endless interim answers", "refuse")
def interim(x):
    endless(x, b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=x\r\n\r\n" * 1000, 8 << 20)


@wire("chunked garbage", "refuse")
def chunked_garbage(x):
    x.send(x.head(200, [JSON, ("Transfer-Encoding", "chunked")], None))
    x.send(b"zz\r\n{}\r\n-1\r\nffffffffffffffffff\r\n")
    raise Gone


@wire("Content-Length twice", "refuse")
def two_lengths(x):
    x.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 900\r\n\r\n{}")
    raise Gone


@wire("Content-Length negative", "refuse")
def negative_length(x):
    x.send(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}")
    raise Gone


def real(x):
    """The genuine answer as bytes, and where its body begins."""
    status, headers, body = x.forward()
    head = x.head(status, headers, len(body))
    return head + (b"" if x.req.method == "HEAD" else body), len(head)


@wire("Content-Length too large", "refuse")
def length_too_large(x):
    status, headers, body = x.forward()
    x.send(x.head(status, headers, len(body) + 100) + body)
    raise Gone


@wire("Content-Length too small", "refuse")
def length_too_small(x):
    status, headers, body = x.forward()
    x.send(x.head(status, headers, max(0, len(body) - 7)) + body)
    raise Gone


@wire("closed before the request arrives")
def cut_before(x):
    close(x.sock)
    raise Gone


@wire("reset before the answer", "refuse")
def cut_reset(x):
    x.forward()
    close(x.sock, reset=True)
    raise Gone


@wire("cut before the answer", "refuse")
def cut_after(x):
    x.forward()
    raise Gone


def cut_at(name, place):
    @wire(name, "refuse")
    def cut(x):
        data, body_at = real(x)
        x.send(data[: place(len(data), body_at)])
        raise Gone


cut_at("cut in the status line", lambda whole, body: 9)
cut_at("cut in the header", lambda whole, body: body // 2)
cut_at("cut before the header ends", lambda whole, body: body - 2)
cut_at("cut in the body", lambda whole, body: (body + whole) // 2 if whole > body else body - 2)
cut_at("cut before the last byte", lambda whole, body: whole - 1)


@wire("not HTTP", "refuse")
def not_http(x):
    x.send(b"SSH-2.0-OpenSSH_9.2p1\r\n" + bytes(range(256)) * 8)
    raise Gone


@wire("HTTP/0.9", "refuse")
def http09(x):
    x.send(b'{"status":"valid"}')
    raise Gone


@wire("status 999", "refuse")
def status999(x):
    return x.reply(999, [JSON], b"{}")


@wire("status line of garbage", "refuse")
def status_garbage(x):
    x.send(b"HTTP/1.1 2e2 OK\r\nContent-Length: 2\r\n\r\n{}")
    raise Gone


# ---- what happens before there is a request: these have the kind "connect"

CONNECT = []  # (name, function(slot, flow, raw socket), expectation, slow)


def connect(name, slow=False):
    def add(function):
        CONNECT.append((name, function, "refuse", slow))
        return function

    return add


@connect("plain HTTP where TLS is expected")
def no_tls(_slot, _flow, sock):
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@connect("accepted and closed")
def accept_close(_slot, _flow, sock):
    close(sock, reset=True)


@connect("TLS that never begins", slow=True)
def no_handshake(_slot, flow, _sock):
    flow.stopping.wait(120)


@connect("TLS record of garbage")
def tls_garbage(_slot, _flow, sock):
    sock.recv(4096)
    sock.sendall(b"\x16\x03\x03\xff\xff" + b"\x02" + b"\xff" * 70000)


@connect("TLS handshake cut")
def tls_cut(_slot, _flow, sock):
    sock.recv(4096)
    sock.sendall(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03")


def h2(slot, sock, payload, flow, repeat=1):
    """HTTP/2 negotiated; the preface read; then @payload."""
    slot.tls.set_alpn_protocols(["h2"])
    try:
        tls = slot.tls.wrap_socket(sock, server_side=True)
        tls.recv(4096)
        for _ in range(repeat):
            if flow.stopping.is_set():
                break
            tls.sendall(payload)
        time.sleep(0.05)
        close(tls)
    finally:
        slot.tls.set_alpn_protocols(["http/1.1"])


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(
        ">I", stream
    ) + payload


SETTINGS = frame(4, 0, 0, b"")


@connect("HTTP/2: garbage")
def h2_garbage(slot, flow, sock):
    h2(slot, sock, bytes(range(256)) * 64, flow)


@connect("HTTP/2: GOAWAY")
def h2_goaway(slot, flow, sock):
    h2(slot, sock, SETTINGS + frame(7, 0, 0, struct.pack(">II", 0, 11) + b"\x1b[31mgo"), flow)


@connect("HTTP/2: stream reset")
def h2_reset(slot, flow, sock):
    h2(slot, sock, SETTINGS + frame(3, 0, 1, struct.pack(">I", 2)), flow)


@connect("HTTP/2: endless CONTINUATION")
def h2_continuation(slot, flow, sock):
    field = b"\x00\x01a\x7f\x80\x01" + b"b" * 255
    block = SETTINGS + frame(1, 0, 1, b"\x88" + field)
    h2(slot, sock, block + frame(9, 0, 1, field) * 4000, flow, repeat=4)


@connect("HTTP/2: flood of PING and SETTINGS")
def h2_flood(slot, flow, sock):
    h2(slot, sock, (SETTINGS + frame(6, 0, 0, b"12345678")) * 2000, flow, repeat=20)


@connect("HTTP/2: 200 and an endless body")
def h2_body(slot, flow, sock):
    h2(slot, sock, SETTINGS + frame(1, 4, 1, b"\x88") + frame(0, 0, 1, b" " * 16384) * 40, flow, 60)
