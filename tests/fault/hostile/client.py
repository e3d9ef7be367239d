# SPDX-License-Identifier: Apache-2.0
"""The command under test in a scratch place, and what must be true after it has run."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys

from certs import run
from proxy import Flow, Slot

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "w.test"
SLOW_TIMEOUT_S = 4
GROWTH_KIB = 4096
LINE_MAX, TEXT_MAX, LOG_MAX = 2048, 16384, 65536
EXITS = (0, 1, 4, 6)  # of those in certmesh(1), what a CA may cause: failed, refused, network
COMMANDS = {
    "newAccount": ["renew", "--force", "--email", "new@a.test", NAME],
    "alternate": ["renew", "--force", "--preferred-chain", "No Such Root", NAME],
    "revokeCert": ["revoke", "--yes", "--keep", NAME],
    "account": ["account", "show"],
    "accountUpdate": ["account", "update", "--email", "new@a.test"],
}
# A message has to say which request it is about: any of these, or the URL.
WORDS = {
    "directory": ["directory"], "newNonce": ["newNonce", "nonce-plz"],
    "newAccount": ["newAccount", "account", "sign-me-up", "newOrder"], "newOrder": ["order"],
    "authz": ["authorization", "authZ", NAME + ":"],
    "challenge": ["challenge", "chalZ", "http-01", "tls-alpn-01", "order"],
    "orderBefore": ["order"], "orderAfter": ["order"], "finalize": ["finalize", "order"],
    "certificate": ["certificate", "certZ"], "revokeCert": ["revoke"],
    "account": ["account"], "accountUpdate": ["account"],
    "authzAfter": ["order"], "authzDeactivate": ["order"], "connect": ["directory"],
}
# What a hostile string must not turn into: control characters (also the C1 ones, as UTF-8 or
# raw) and direction overrides.
UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff\udc80-\udcff]")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Client:
    """A slot, its folder, and a base storage made by way of it: an account and a certificate."""

    def __init__(self, options, authority, folder):
        self.dir, self.options = folder, options
        for name in ("cwd", "home", "tmp"):
            os.makedirs(os.path.join(folder, name))
        self.slot = Slot(options.pebble, options.server_cert, options.server_key, options.trust)
        self.slot.authority, self.slot.name = authority, NAME
        self.launcher = subprocess.Popen([sys.executable, "-ISB", os.path.join(HERE, "launcher.py")],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.base = self.path("base")
        os.mkdir(self.base, 0o700)
        self.store = self.base
        done = self.run(options.release, Flow(), ["obtain", NAME], 120)
        if done["exit"] != 0:
            raise RuntimeError("set-up of a storage failed: " + done["text"])
        self.old = self.pair()
        self.ports = None

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def close(self):
        self.slot.listener.close()
        self.launcher.stdin.close()
        self.launcher.wait()

    def fresh(self):
        self.store = self.path("store")
        shutil.rmtree(self.store, ignore_errors=True)
        shutil.copytree(self.base, self.store)
        for name in ("cwd", "home", "tmp"):
            for left in os.scandir(self.path(name)):
                shutil.rmtree(left) if left.is_dir() else os.unlink(left)

    def let_time_pass(self):
        """A CA that wants to be left alone is, by whoever uses the storage. Here that time is over."""
        shutil.rmtree(os.path.join(self.store, "certmesh", "gates"), ignore_errors=True)

    def run(self, program, flow, command, limit, slow=False, verbose=False, wrapper=()):
        argv = [*wrapper, program, *command, "--storage", "file://" + self.store, "--ca",
                self.slot.base + "/dir", "--ca-root", self.slot.trust]
        if "--email" not in argv:
            argv += ["--email", "ops@a.test"]
        if command[0] in ("obtain", "renew", "account"):
            argv.append("--agree")
        if command[0] in ("obtain", "renew"):
            argv += ["--listen", "127.0.0.1", "--http-port", str(free_port()), "--tls-port",
                     str(free_port())]
        if slow:
            argv += ["--timeout", str(SLOW_TIMEOUT_S)]
        if verbose:
            argv.append("--verbose")
        env = {"PATH": os.environ["PATH"], "HOME": self.path("home"), "TMPDIR": self.path("tmp"),
               "LANG": "C.UTF-8",
               "ASAN_OPTIONS": "exitcode=97:detect_stack_use_after_return=1:"
                               "strict_string_checks=1:allocator_may_return_null=1",
               "UBSAN_OPTIONS": "exitcode=98:print_stacktrace=1",
               "LSAN_OPTIONS": "exitcode=99" + self.options.suppressions}
        self.slot.flow = flow
        job = {"argv": argv, "env": env, "cwd": self.path("cwd"), "limit": limit,
               "out": self.path("out"), "err": self.path("err")}
        print(json.dumps(job), file=self.launcher.stdin, flush=True)
        done = json.loads(self.launcher.stdout.readline())
        flow.stopping.set()
        done["text"] = ""
        for name in ("out", "err"):
            with open(self.path(name), "rb") as f:
                done["text"] += f.read(1 << 20).decode("utf-8", "surrogateescape")
        return done

    # ------------------------------------------------------------------ checks

    def find(self, suffix):
        for folder, _, files in os.walk(os.path.join(self.store, "certificates")):
            for name in files:
                if name == NAME + suffix:
                    return os.path.join(folder, name)
        return None

    def pair(self):
        out = []
        for suffix in (".crt", ".key"):
            path = self.find(suffix)
            if path is None:
                return None
            with open(path, "rb") as f:
                out.append(f.read())
        return out

    def fits(self):
        """The stored key is that of the stored leaf."""
        crt, key = self.find(".crt"), self.find(".key")
        if crt is None or key is None:
            return False
        try:
            return run("openssl", "x509", "-in", crt, "-noout", "-pubkey") == run(
                "openssl", "pkey", "-in", key, "-pubout")
        except RuntimeError:
            return False

    def strays(self):
        """What lies where nothing should."""
        known = {"certificates", "acme", "locks", "certmesh"}
        found = sorted(set(os.listdir(self.store)) - known)
        for name in ("cwd", "home", "tmp"):
            found += [os.path.join(name, f) for f in os.listdir(self.path(name))]
        expected = {"base", "store", "cwd", "home", "tmp", "out", "err", "trace"}
        found += sorted(set(os.listdir(self.dir)) - expected)
        for folder, _, files in os.walk(self.store):
            found += [os.path.join(folder, f) for f in files if not re.fullmatch(r"[\w.@+-]+", f)]
        return found

    def tokens(self):
        return [f for folder, _, files in os.walk(self.store) for f in files
                if "challenge_tokens" in folder]

    def locks(self):
        """Held ones: a lock file that the layout leaves has no content."""
        found = []
        for folder, _, files in os.walk(os.path.join(self.store, "locks")):
            found += [f for f in files if f.endswith(".lock")]
        return found


def check_run(client, done, limit, text_max=TEXT_MAX):
    """What holds of every run, whatever came of it: findings as text."""
    bad = []
    if done["hung"]:
        return ["still running after %d s" % limit]
    if done["exit"] not in EXITS:
        bad.append("exit %d" % done["exit"])
    text = done["text"]
    if re.search("Sanitizer|runtime error:", text):
        bad.append("a sanitizer reports")
    found = UNPRINTABLE.search(text)
    if found:
        bad.append("unescaped %r in its output" % found.group())
    if len(text) > text_max or any(len(line) > LINE_MAX for line in text.split("\n")):
        bad.append("output of %d characters" % len(text))
    for what, left in (("strays", client.strays()), ("tokens", client.tokens()),
                       ("locks", client.locks())):
        if left:
            bad.append("%s left: %s" % (what, ", ".join(left)[:200]))
    return bad


def check_outcome(client, case, done):
    """What holds of a run against this case's CA."""
    bad = []
    if case.expect == "refuse" and done["exit"] == 0:
        bad.append("taken for good")
    if case.expect == "accept" and done["exit"] != 0:
        bad.append("refused with exit %d" % done["exit"])
    if done["exit"] == 0:
        if not client.fits():
            bad.append("key and certificate do not fit")
    else:
        if client.pair() != client.old:
            bad.append("the old pair is not what it was")
        words = WORDS.get(case.kind, [])
        words = words and [*words, "GET https://", "HEAD https://", "POST https://"]
        if words and not any(w in done["text"] for w in words):
            bad.append("the message does not name the request")
    return bad


WRITES = re.compile(r"^\d+\s+(\w+)\((.*)")


def check_trace(path, client):
    """strace -f -y: one exec, and no file made, written or moved outside of the storage."""
    bad, execs = [], 0
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            m = WRITES.match(line)
            if not m:
                continue
            call, rest = m.groups()
            if call in ("execve", "execveat"):
                execs += 1
            elif call in ("open", "openat", "openat2") and not re.search(
                    "O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE", rest):
                continue
            elif client.store not in rest and "/proc/self/task/" not in rest:  # threads' names
                bad.append("outside of the storage: %s(%s" % (call, rest.strip()[:120]))
    if execs != 1:
        bad.append("%d execs" % execs)
    return bad
