#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A flood of handshakes for names that nobody knows, all different, and an honest client beside them.

Each is a whole ClientHello on a connection of its own, from 250 networks, and has to be
answered by an alert. The honest client's errands have to succeed, 999 of 1000 at least, with a p99
of twice what it was without the flood, or 10 ms (the best of --rounds counts: a busy machine only ever
makes it slower); the server's memory may grow by 16 MiB and its descriptors by those
that it asks with."""

import argparse
import multiprocessing
import os
import socket
import ssl
import subprocess
import sys
import time

FLOOR_MS = 10.0
RSS_KIB = 16384
MARK = "x" * 24 + ".flood.example"  # in the place of a name of the same length


def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    return c


def hello():
    out = ssl.MemoryBIO()
    tls = context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=MARK)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def flood(a, number):
    """How many got an alert, and how many something else: see hello_flood.c."""
    done = subprocess.run([a.tool, str(a.port), str(a.count), str(a.rate), str(number), MARK],
                          input=hello(), stdout=subprocess.PIPE, check=True)
    return map(int, done.stdout.split())


def honest(port, name, stop, pipe):
    tls = context()
    samples = []
    while not stop.is_set():
        at = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with tls.wrap_socket(s, server_hostname=name):
                    pass
            samples.append((at, (time.monotonic() - at) * 1000, None))
        except OSError as e:
            samples.append((at, (time.monotonic() - at) * 1000, str(e)))
        time.sleep(0.005)
    pipe.send(samples)


def p99(samples):
    times = sorted(s[1] for s in samples)
    return times[min(len(times) - 1, int(len(times) * 0.99))] if times else float("inf")


def fds_of(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def one_round(a, number):
    bad = []
    mine, theirs = multiprocessing.Pipe()
    stop = multiprocessing.Event()
    client = multiprocessing.Process(target=honest, args=(a.port, a.name, stop, theirs))
    client.start()
    time.sleep(a.idle)
    rss, fds = rss_kib(a.pid), fds_of(a.pid)
    began = time.monotonic()
    alerts, others = flood(a, number)
    over = time.monotonic()
    stop.set()
    samples = mine.recv()
    client.join()
    grown = rss_kib(a.pid) - rss
    time.sleep(0.5)
    idle = [s for s in samples if s[0] < began]
    load = [s for s in samples if began <= s[0] <= over]
    failed = [s[2] for s in samples if s[2] is not None]
    if alerts < a.count * 0.999:
        bad.append(f"only {alerts} of {a.count} got an alert, {others} something else")
    if len(failed) > len(samples) / 1000:
        bad.append(f"{len(failed)} of {len(samples)} honest errands failed: {failed[0]}")
    if len(idle) < 50 or len(load) < 50:
        bad.append(f"only {len(idle)} and {len(load)} honest errands: nothing was measured")
    if grown > RSS_KIB:
        bad.append(f"memory grew by {grown} KiB")
    if fds_of(a.pid) > fds + 16:  # it may keep some to the program that it asks
        bad.append(f"{fds_of(a.pid)} descriptors after the flood, {fds} before")
    print(f"flood: {a.count} names in {over - began:.1f} s ({a.count / (over - began):.0f} per s), "
          f"{alerts} alerts, honest p99 {p99(idle):.1f} ms idle {p99(load):.1f} ms loaded "
          f"({len(load)} errands, {len(failed)} failed), memory +{grown} KiB", flush=True)
    return bad, p99(idle), p99(load)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("tool", help="hello_flood")
    p.add_argument("port", type=int)
    p.add_argument("pid", type=int)
    p.add_argument("--count", type=int, default=1000000)
    p.add_argument("--rate", type=float, default=10000, help="new names per second, at most")
    p.add_argument("--name", default="localhost", help="the honest client's")
    p.add_argument("--idle", type=float, default=2, help="s of the honest client alone")
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    idle, load, bad = [], [], []
    for number in range(a.rounds):
        more, i, l = one_round(a, number)
        bad += more
        idle.append(i)
        load.append(l)
        if bad or l <= max(2 * i, FLOOR_MS):
            break
    if min(load) > max(2 * min(idle), FLOOR_MS) and not any(
            l <= max(2 * i, FLOOR_MS) for i, l in zip(idle, load)):
        bad.append(f"honest p99 {min(load):.1f} ms during the flood, {min(idle):.1f} ms before")
    for text in bad:
        print(f"flood: {text}")
    sys.exit(1 if bad else 0)


main()
