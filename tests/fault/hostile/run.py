# SPDX-License-Identifier: Apache-2.0
"""The client against a CA whose answers are wrong, one kind of request and one answer at a time.

Each case: the sanitized build against the fault, then a plain rerun of the release build on what
that left, then the release build against the fault from the start, for its memory.
"""

import argparse
import collections
import os
import queue
import sys
import tempfile
import threading
import time

import answers
import certs
import client as under_test
import wire
from client import Client, check_outcome, check_run, check_trace
from proxy import Flow

LIMIT_S, SLOW_LIMIT_S, NATURAL_LIMIT_S = 75, 30, 100
RESULTS = threading.Lock()
TRACED = ("problem with", "URLs", "authorization token", "order hostile", "alternate")
TRACE = ("execve,execveat,open,openat,openat2,creat,rename,renameat,renameat2,link,linkat,symlink,"
         "symlinkat,mkdir,mkdirat,unlink,unlinkat")


class Sweep:
    def __init__(self, options):
        self.options = options
        self.base_peak = {}
        self.failures, self.done, self.fired = [], 0, 0
        self.slowest, self.growth = (0, ""), (0, "")
        self.requests = 0
        self.traced = self.resumed = 0

    def fail(self, case, what, done):
        with RESULTS:
            self.failures.append(str(case))
        print("FAILED: %s: %s\n    exit %s, %.1f s: %s" % (
            case, what[:600], done["exit"], done["seconds"], done["text"].strip()[-400:]), flush=True)

    def command(self, case):
        return under_test.COMMANDS.get(case.kind, ["renew", "--force", under_test.NAME])

    def limit(self, case):
        return NATURAL_LIMIT_S if case.natural else SLOW_LIMIT_S if case.slow else LIMIT_S

    def note(self, case, flow, done):
        with RESULTS:
            self.requests += flow.total
            self.slowest = max(self.slowest, (done["seconds"], str(case)))

    def against(self, client, case, program, **how):
        flow = Flow(case.kind, case.answer, case.once)
        done = client.run(program, flow, self.command(case), self.limit(case), case.slow, **how)
        self.note(case, flow, done)
        return flow, done

    def findings(self, client, case):
        """The first finding as (what, run), or None."""
        # Pebble gives one order in a hundred an authorization that is valid already, whatever it is
        # told; then there is none to fetch, and what came before in vain is of no weight.
        for _ in range(3):
            client.fresh()
            if case.prelude:
                client.run(self.options.release, Flow(*case.prelude), self.command(case), LIMIT_S)
                client.let_time_pass()
            flow, done = self.against(client, case, self.options.asan)
            gift = flow.counts.get("authz", 0) < flow.counts.get("newOrder", 0)
            if flow.fired and not (gift and case.expect == "refuse" and done["exit"] == 0):
                break
        bad = [] if flow.fired else ["the fault did not fire"]
        bad += check_run(client, done, self.limit(case)) + check_outcome(client, case, done)
        if bad:
            return "; ".join(bad), done
        if done["exit"] != 0 or case.expect == "any":
            honest = Flow()
            client.let_time_pass()
            again = client.run(self.options.release, honest, self.command(case), LIMIT_S)
            bad = check_run(client, again, LIMIT_S)
            orders = honest.counts.get("newOrder", 0)
            if case.prelude:
                orders += flow.counts.get("newOrder", 0)
            if case.keeps_order():
                bad += ["%d orders more" % orders] if orders else []
                with RESULTS:
                    self.resumed += 1
            if again["exit"] != 0 or bad or not client.fits():
                return "the rerun without fault fails: " + "; ".join(bad), again
        if case.natural:
            return None
        wrapper, trace = (), client.path("trace")
        if self.options.sampled or hash_of(case) % 4 == 0:
            if any(word in case.name for word in TRACED):
                wrapper = (self.options.strace, "-f", "-qq", "-y", "-o", trace, "-e",
                           "trace=" + TRACE)
        client.fresh()
        flow, done = self.against(client, case, self.options.release, verbose=True, wrapper=wrapper)
        bad = check_run(client, done, self.limit(case), under_test.LOG_MAX)
        if wrapper:
            bad += check_trace(trace, client)
            with RESULTS:
                self.traced += 1
        else:
            bad += self.check_growth(case, done)
        return ("release build: " + "; ".join(bad), done) if bad else None

    def check_growth(self, case, done):
        growth = done["peak_kib"] - self.base_peak[self.command(case)[0]]
        with RESULTS:
            self.growth = max(self.growth, (growth, str(case)))
        if growth > under_test.GROWTH_KIB:
            return ["%d KiB more memory than without the fault" % growth]
        return []

    def measure(self, client):
        """An honest CA gives success, and what memory that takes; True when all is well."""
        good = True
        for kind in ("directory", "revokeCert", "account"):
            case = answers.Case(kind, "an honest CA", None, "accept")
            for program in (self.options.asan, self.options.release):
                client.fresh()
                done = client.run(program, Flow(), self.command(case), LIMIT_S, verbose=program ==
                                  self.options.release)
                bad = check_run(client, done, LIMIT_S, under_test.LOG_MAX) + check_outcome(client, case, done)
                if bad:
                    self.fail(case, "; ".join(bad), done)
                    good = False
            self.base_peak[self.command(case)[0]] = done["peak_kib"]
        with open("/proc/%d/status" % client.launcher.pid, encoding="ascii") as f:
            own = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        if own >= min(self.base_peak.values()):
            print("FAILED: the launcher (%d KiB) hides what the client takes" % own)
            good = False
        return good

    def work(self, client, cases):
        while True:
            try:
                case = cases.get_nowait()
            except queue.Empty:
                return
            try:
                found = self.findings(client, case)
            except Exception as e:  # a harness that breaks is no pass
                found = ("the harness broke: %r" % e, {"exit": "?", "seconds": 0, "text": ""})
            if found:
                self.fail(case, *found)
            with RESULTS:
                self.done += 1


def hash_of(case):
    return sum(str(case).encode()) % 9973


def controls(sweep, client):
    """Stand-ins for the client, each with a fault of its own that must be seen."""
    honest = 'exec "%s" "$@"\n' % sweep.options.release
    stand_ins = [
        ("crash", "kill -SEGV $$\n", "exit -11"),
        ("hang", "sleep 60\n", "still running"),
        ("odd exit", "exit 2\n", "exit 2"),
        ("sanitizer", "echo '==1==ERROR: AddressSanitizer: x' >&2; exit 97\n", "sanitizer"),
        ("escape", "printf 'order \\033[31m\\n' >&2; exit 4\n", "unescaped"),
        ("talk", "head -c 20000 /dev/zero | tr '\\0' x; exit 4\n", "output of"),
        ("stray", "echo order; echo x >pwned; exit 4\n", "strays"),
        ("silent", "exit 4\n", "does not name"),
        ("lost pair", 'rm -r "%s"; echo order; exit 4\n' % client.path("store", "certificates"),
         "old pair"),
        ("token", 'd="%s/acme/x/challenge_tokens"; mkdir -p "$d"; echo >"$d/t.json"; exit 4\n'
         % client.path("store"), "tokens"),
        ("credulous", "exit 0\n", "taken for good"),
        ("no request", honest, "did not fire"),
        ("bloat", "exec %s -c 'x = b\"x\" * (96 << 20); print(\"order\"); raise SystemExit(4)'\n"
         % sys.executable, "more memory"),
        ("exec", '/bin/true; echo order; exit 4\n', "execs"),
    ]
    missed = 0
    asan, release, limit = sweep.options.asan, sweep.options.release, sweep.limit
    for name, script, finding in stand_ins:
        path = client.path("..", "stand-in." + name.replace(" ", "-"))
        with open(path, "w", encoding="ascii") as f:
            f.write("#!/bin/bash\n" + script)
        os.chmod(path, 0o700)
        kind = "nothing" if name == "no request" else "newOrder"
        case = answers.Case(kind, "control", answers.static(403, [], b""), "refuse")
        client.fresh()
        flow = Flow(case.kind, case.answer)
        seconds = 1 if name == "hang" else 30
        wrapper, trace = (), client.path("trace")
        if name == "exec":
            wrapper = (sweep.options.strace, "-f", "-qq", "-y", "-o", trace, "-e", "trace=" + TRACE)
        done = client.run(path, flow, sweep.command(case), seconds, wrapper=wrapper)
        bad = check_run(client, done, seconds) + check_outcome(client, case, done)
        if name == "no request" and not flow.fired:
            bad.append("the fault did not fire")
        if name == "bloat":
            bad += sweep.check_growth(case, done)
            sweep.growth = (0, "")
        if name == "exec":
            bad += check_trace(trace, client)
        if finding not in "; ".join(bad):
            missed += 1
            print("FAILED: negative control '%s' was not noticed: %s" % (name, bad))
    sweep.options.asan, sweep.options.release, sweep.limit = asan, release, limit
    return len(stand_ins), missed


# Each of these has found something; they are in every sample.
FOUND = ("challenge: 500 HTML", "authzDeactivate: 500 HTML", "newAccount: URLs relative",
         "accountUpdate: null for all", "orderBefore: resumed order, 503 JSON",
         "certificate: 500 HTML", "orderAfter: cut in the body")


def choose(cases, options):
    """In the sample each answer once, with another kind of request each time."""
    if options.only:
        return [c for c in cases if options.only in str(c)]
    if not options.sampled:
        return cases
    by_name = collections.OrderedDict()
    for case in cases:
        if not case.natural:
            by_name.setdefault(case.name, []).append(case)
    chosen = [group[(5 * i) % len(group)] for i, group in enumerate(by_name.values())]
    return chosen + [c for c in cases if str(c) in FOUND and c not in chosen]


def main():
    p = argparse.ArgumentParser()
    for name in ("asan", "release", "strace", "server-cert", "server-key", "trust", "pebble"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--suppressions", default="")
    p.add_argument("--jobs", type=int, default=8)
    p.add_argument("--sampled", action="store_true")
    p.add_argument("--only", help="cases that have this in their name")
    p.add_argument("--list", action="store_true")
    options = p.parse_args()
    host, port = options.pebble.rsplit(":", 1)
    options.pebble = (host, int(port))
    cases = choose(answers.all_cases(certs, wire.CONNECT), options)
    if options.list:
        print("\n".join(map(str, cases)))
        return 0
    with tempfile.TemporaryDirectory(prefix="cm-hostile.") as folder:
        return sweep_all(options, cases, folder)


def sweep_all(options, cases, folder):
    authority = certs.Authority(os.path.join(folder, "authority"))
    sweep = Sweep(options)
    clients = [Client(options, authority, os.path.join(folder, "slot.%d" % i))
               for i in range(options.jobs)]
    good = sweep.measure(clients[0])
    n_controls, missed = controls(sweep, clients[0]) if not options.only else (0, 0)
    waiting = queue.Queue()
    # Those that wait for a limit first: the others go on beside them.
    for case in sorted(cases, key=lambda c: (not c.natural, not c.slow)):
        waiting.put(case)
    workers = [threading.Thread(target=sweep.work, args=(c, waiting)) for c in clients]
    for w in workers:
        w.start()
    shown = time.monotonic()
    while any(w.is_alive() for w in workers):
        time.sleep(0.2)
        if time.monotonic() - shown > 30:
            shown = time.monotonic()
            print("hostile CA: %d of %d" % (sweep.done, len(cases)), flush=True)
    for c in clients:
        c.close()
    kinds = len({c.kind for c in cases})
    print("hostile CA: %d cases (%d kinds of request), %d failed, %d requests, %d traced, "
          "%d resumed; "
          "slowest %.1f s (%s); most memory +%d KiB (%s)" % (
              sweep.done, kinds, len(sweep.failures), sweep.requests, sweep.traced, sweep.resumed,
              *sweep.slowest, *sweep.growth))
    print("hostile CA: %d negative controls, %d missed" % (n_controls, missed))
    failed = len(sweep.failures) + missed + (not good) + (sweep.done != len(cases))
    print("counts: %d %d" % (sweep.done + n_controls + 1 - min(failed, sweep.done), failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
