#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""systemd.py SOCKET... -- PROGRAM [ARGUMENT...]: run the program as systemd does that has sockets
for it: from descriptor 3 on, with LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES.

A SOCKET is [NAME=]PORT: listening on it, on all addresses by one socket. Or [NAME=] and a word: udp,
unix, quiet (bound, does not listen), file, closed. NAME= at least once gives names to all."""

import os
import socket
import sys


def make(what):
    if what == "udp":
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.bind(("::", 0))
        return made.detach()
    if what == "unix":
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.bind("")
        made.listen()
        return made.detach()
    if what == "file":
        return os.open("/dev/null", os.O_RDONLY)
    made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind(("::", 0 if what == "quiet" else int(what)))
    if what != "quiet":
        made.listen(128)
    return made.detach()


def main():
    cut = sys.argv.index("--")
    sockets, command = sys.argv[1:cut], sys.argv[cut + 1:]
    high = 100  # above all that is to be
    names = [s.partition("=")[0] if "=" in s else "unknown" for s in sockets]
    for at, text in enumerate(sockets):
        what = text.rpartition("=")[2]
        if what == "closed":
            continue
        fd = make(what)
        os.dup2(fd, high + at)
        os.close(fd)
    for at, text in enumerate(sockets):
        if text.rpartition("=")[2] != "closed":
            os.dup2(high + at, 3 + at)
            os.close(high + at)
        else:
            try:
                os.close(3 + at)
            except OSError:
                pass
    os.environ["LISTEN_PID"] = os.environ.get("SYSTEMD_PID", str(os.getpid()))
    os.environ["LISTEN_FDS"] = os.environ.get("SYSTEMD_FDS", str(len(sockets)))
    if any("=" in s for s in sockets):
        os.environ["LISTEN_FDNAMES"] = os.environ.get("SYSTEMD_NAMES", ":".join(names))
    os.execvp(command[0], command)


main()
