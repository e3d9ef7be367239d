#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""load.py PORT TRUST RENEWALS SECONDS PER_SECOND NAME...: TLS handshakes with a server on 127.0.0.1,
steadily, until each name has shown RENEWALS new certificates on the wire, or SECONDS have passed, or
SIGTERM came. RENEWALS 0: until then.

Names take turns; of each, TLS 1.2 and 1.3 take turns, and so do full handshakes (which verify chain,
name and dates against TRUST) and ones that resume. What a ticket is used for last is to resume once
more when the certificate that it was made with has been replaced. "went_back" are full handshakes
that showed a certificate which another one, that was over by then, had shown to be replaced. Prints
one JSON object:
  {"full", "resumed", "not_resumed", "resumed_across", "went_back", "slowest_ms",
   "failures", "seconds",
   "failed": [[when, why]...], "renewals": {NAME: how many}, "serials": {NAME: [...]}}"""

import json
import queue
import signal
import socket
import ssl
import sys
import threading
import time

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
WORKERS = 4
TIMEOUT_S = 20
FAILED_MAX = 50


def context(trust, version):
    made = ssl.create_default_context(cafile=trust)
    made.minimum_version = made.maximum_version = version
    return made


class Name:
    """One name in one version of TLS: its last ticket, and with which certificate it was made."""

    def __init__(self, name, made):
        self.name, self.context = name, made
        self.session, self.session_serial = None, None
        self.lock = threading.Lock()


class Load:
    def __init__(self, port, renewals, names):
        self.port, self.renewals = port, renewals
        self.lock = threading.Lock()
        self.serials = {name: [] for name in names}
        self.counts = dict.fromkeys(("full", "resumed", "not_resumed", "resumed_across",
                                     "went_back"), 0)
        self.failed, self.slowest_s = [], 0.0
        self.stop = threading.Event()

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def seen(self, name, serial):
        with self.lock:
            known = self.serials[name]
            if serial not in known:
                known.append(serial)
            done = min(len(s) for s in self.serials.values()) > self.renewals
        if done and self.renewals:
            self.stop.set()

    def newest(self, name):
        with self.lock:
            return (self.serials[name] or [None])[-1]

    def connect(self, name, made, session):
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S) as plain:
            with made.wrap_socket(plain, server_hostname=name, session=session) as tls:
                tls.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                answer = tls.recv(4096)
                while tls.recv(4096):  # a ticket of TLS 1.3 comes after the handshake
                    pass
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise ssl.SSLError(f"{name}: answered {answer[:40]!r}")
                return tls.session_reused, tls.getpeercert()["serialNumber"], tls.session

    def full(self, one):
        newest = self.newest(one.name)
        _, serial, one.session = self.connect(one.name, one.context, None)
        one.session_serial = serial
        self.count("full")
        self.seen(one.name, serial)
        order = self.serials[one.name]
        if newest is not None and order.index(serial) < order.index(newest):
            self.count("went_back")

    def resume(self, one):
        reused, _, _ = self.connect(one.name, one.context, one.session)
        self.count("resumed" if reused else "not_resumed")
        if reused and one.session_serial != self.newest(one.name):
            self.count("resumed_across")

    def handshake(self, one, resume):
        began = time.monotonic()
        try:
            with one.lock:
                if resume and one.session is not None:
                    self.resume(one)
                    one.session = None if one.session_serial != self.newest(one.name) else one.session
                # A full one would replace the ticket: not before it has seen another certificate.
                elif one.session is None or one.session_serial == self.newest(one.name):
                    self.full(one)
        except (OSError, ssl.SSLError) as why:
            with self.lock:
                self.failed.append([round(time.time(), 3), f"{one.name}: {why}"])
        with self.lock:
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def work(self, jobs):
        while not self.stop.is_set():
            try:
                self.handshake(*jobs.get(timeout=0.2))
            except queue.Empty:
                pass

    def run(self, targets, seconds, per_second):
        jobs = queue.Queue(maxsize=WORKERS * 2)
        threads = [threading.Thread(target=self.work, args=(jobs,)) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        turn = 0
        while time.monotonic() - began < seconds and not self.stop.wait(1 / per_second):
            one = targets[turn % len(targets)]
            try:
                jobs.put((one, turn // len(targets) % 2 == 1), timeout=1)
            except queue.Full:
                pass
            turn += 1
        self.stop.set()
        for thread in threads:
            thread.join()
        return time.monotonic() - began


def main():
    if len(sys.argv) < 7:
        sys.exit(__doc__)
    port, trust, renewals, seconds, per_second = sys.argv[1:6]
    names = sys.argv[6:]
    load = Load(int(port), int(renewals), names)
    signal.signal(signal.SIGTERM, lambda *_: load.stop.set())
    contexts = [context(trust, version) for version in VERSIONS]
    targets = [Name(name, made) for made in contexts for name in names]
    took = load.run(targets, float(seconds), float(per_second))
    print(json.dumps({**load.counts, "slowest_ms": round(load.slowest_s * 1000),
                      "failures": len(load.failed), "failed": load.failed[:FAILED_MAX],
                      "renewals": {name: len(s) - 1 for name, s in load.serials.items()},
                      "serials": load.serials, "seconds": round(took, 1)}))


main()
