#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""news.py TRUST NAME ROUNDS PATIENCE_S PORT... -- COMMAND...: how soon other servers show what one of a
fleet has stored. ROUNDS times: run COMMAND, which renews NAME, and do handshakes with each PORT of
127.0.0.1 until it shows the new certificate. COMMAND prints when the certificate was stored, in ms
since 1970, as the last line. Prints one JSON object:
  {"rounds", "late": how often PATIENCE_S was not enough, "p50_ms", "p99_ms", "worst_ms",
   "failures": handshakes that failed}"""

import json
import socket
import ssl
import subprocess
import sys
import threading
import time

PAUSE_S = 0.002


class Watcher(threading.Thread):
    """Handshakes with one server, one after the other; notes when each certificate was first shown."""

    def __init__(self, trust, name, port):
        super().__init__(daemon=True)
        self.context = ssl.create_default_context(cafile=trust)
        self.name, self.port = name, port
        self.changed = threading.Condition()
        self.serials, self.seen_ms, self.failures = [], [], 0
        self.ends = False

    def shown(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain:
            with self.context.wrap_socket(plain, server_hostname=self.name) as tls:
                return tls.getpeercert()["serialNumber"]

    def run(self):
        while not self.ends:
            try:
                serial = self.shown()
            except OSError:
                self.failures += 1 if self.serials else 0  # before, it was not up
                time.sleep(0.05)
                continue
            now_ms = time.time() * 1000
            with self.changed:
                if not self.serials or serial != self.serials[-1]:
                    self.serials.append(serial)
                    self.seen_ms.append(now_ms)
                    self.changed.notify_all()
            time.sleep(PAUSE_S)

    def wait_for(self, count, patience_s):
        """When the certificate of that number was shown; None if it was not."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.serials) >= count, patience_s):
                return None
            return self.seen_ms[count - 1]


def percentile(sorted_values, p):
    return round(sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * p / 100))], 1)


def main():
    split = sys.argv.index("--")
    trust, name, rounds, patience_s = sys.argv[1:5]
    watchers = [Watcher(trust, name, int(port)) for port in sys.argv[5:split]]
    command = sys.argv[split + 1:]
    took, late = [], 0
    for watcher in watchers:
        watcher.start()
        if watcher.wait_for(1, 30) is None:
            sys.exit(f"port {watcher.port} shows nothing")
    for _ in range(int(rounds)):
        counts = [len(w.serials) for w in watchers]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"exit {done.returncode}: {done.stdout}{done.stderr}")
        stored_ms = int(done.stdout.split()[-1])
        for watcher, count in zip(watchers, counts):
            seen_ms = watcher.wait_for(count + 1, float(patience_s))
            if seen_ms is None:
                late += 1
            else:
                took.append(max(0.0, seen_ms - stored_ms))
    for watcher in watchers:
        watcher.ends = True
    took.sort()
    print(json.dumps({"rounds": len(took) + late, "late": late,
                      "p50_ms": percentile(took, 50) if took else None,
                      "p99_ms": percentile(took, 99) if took else None,
                      "worst_ms": took[-1] if took else None,
                      "failures": sum(w.failures for w in watchers)}))


main()
