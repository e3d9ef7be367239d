#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""proxy.py PORT_FILE LOG [USER:PASSWORD]: an HTTP proxy on 127.0.0.1 that can CONNECT only.

Whatever host is asked for, the connection goes to 127.0.0.1: names that no resolver knows prove
that the proxy was the one to look them up. Each request is a line in LOG: "CONNECT host:port" or,
without the right Proxy-Authorization, "407". The port goes into PORT_FILE once it listens."""

import base64
import os
import socket
import sys
import threading


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for s in (source, sink):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client, log, credentials):
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(4096)
        if not data or len(head) > 65536:
            return
        head += data
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    if credentials is not None:
        want = "proxy-authorization: basic " + base64.b64encode(credentials.encode()).decode()
        if want.lower() not in (line.lower() for line in lines):
            log("407")
            client.sendall(b"HTTP/1.1 407 Authentication Required\r\nProxy-Authenticate: Basic "
                           b"realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
    log(f"{method} {target}")
    if method != "CONNECT":
        client.sendall(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return
    with socket.create_connection(("127.0.0.1", int(target.rsplit(":", 1)[1])), 10) as server:
        server.settimeout(None)
        client.sendall(b"HTTP/1.1 200 Go\r\n\r\n")
        back = threading.Thread(target=pump, args=(server, client), daemon=True)
        back.start()
        pump(client, server)
        back.join()


def handle(client, log, credentials):
    with client:
        try:
            serve(client, log, credentials)
        except (OSError, ValueError):
            pass


def main():
    port_file, log_file = sys.argv[1:3]
    credentials = sys.argv[3] if len(sys.argv) > 3 else None
    lock = threading.Lock()

    def log(line):
        with lock, open(log_file, "a", encoding="utf-8") as f:
            f.write(line + "\n")

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        with open(port_file + ".new", "w", encoding="utf-8") as f:
            f.write(str(listener.getsockname()[1]))
        os.rename(port_file + ".new", port_file)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=handle, args=(client, log, credentials), daemon=True).start()


main()
