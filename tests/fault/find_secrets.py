#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""find_secrets.py PID|FILE... -- NAME=KEY.pem|NAME=text:BASE64URL...

Where the numbers that make a key secret lie in the memory of a process (all that it has mapped, also
what a core dump leaves out; the process stands still meanwhile) or in files. One line per secret
and form that is there: "NAME FORM COUNT PLACE...". Exit status 1 if there is any.

Looked for are the scalar of an EC key, or the private exponent and the primes of an RSA key: as
they are, as GMP holds them (the other way round), as hex, and as part of base64 text of either
alphabet, whatever comes before; in halves, since the first bytes of freed memory are reused."""

import base64
import os
import re
import signal
import subprocess
import sys

CHUNK = 16 << 20


def numbers(pem):
    text = subprocess.run(["openssl", "pkey", "-in", pem, "-noout", "-text"], check=True, text=True,
                          capture_output=True).stdout
    for name in ("priv", "privateExponent", "prime1", "prime2"):
        m = re.search(rf"^{name}:\n((?: +[0-9a-f:]+\n)+)", text, re.M)
        if m:
            raw = bytes.fromhex(re.sub(r"[ :\n]", "", m.group(1)))
            yield name, raw.lstrip(b"\0")


def in_base64(raw):
    """What any base64 of something that contains @raw contains, per alignment."""
    for lead in range(3):
        text = base64.b64encode(b"\0" * lead + raw)
        # Whole quartets of ours only; PEM puts a line feed after 64 characters.
        text = text[4 if lead else 0:len(text) // 4 * 4 - 4]
        for form in {text, text.translate(bytes.maketrans(b"+/", b"-_"))}:
            yield form[:20]
            yield form[-20:]


def patterns(secrets):
    """{bytes: "NAME FORM"}"""
    found = {}
    for secret in secrets:
        name, _, value = secret.partition("=")
        if value.startswith("text:"):
            text = value[5:]
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            parts = [("key", raw)]
            found[text.encode()[:24]] = found[text.encode()[-24:]] = f"{name} text"
        else:
            parts = list(numbers(value))
        for part, raw in parts:
            half = min(len(raw) // 2, 32)
            for form, data in (("bytes", raw), ("reversed", raw[::-1])):
                found[data[:half]] = found[data[-half:]] = f"{name}.{part} {form}"
            found[raw.hex().encode()[:32]] = f"{name}.{part} hex"
            found[raw.hex().upper().encode()[-32:]] = f"{name}.{part} hex"
            for text in in_base64(raw):
                found.setdefault(text, f"{name}.{part} base64")
    return found


def chunks_of_process(pid):
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            span, mode, _, _, _, *path = line.split(maxsplit=5)
            if "r" not in mode or (path and path[0].startswith("[v")):
                continue
            place = path[0].strip() if path else "anonymous"
            at, end = (int(x, 16) for x in span.split("-"))
            mem.seek(at)
            data = b""
            try:
                while at < end:
                    more = mem.read(min(CHUNK, end - at))
                    if not more:
                        break
                    data = data[-64:] + more
                    at += len(more)
                    yield place, data
            except OSError:
                continue  # the kernel's own pages


def chunks_of_file(path):
    with open(path, "rb") as f:
        data = b""
        while more := f.read(CHUNK):
            data = data[-64:] + more
            yield path, data


def main():
    split = sys.argv.index("--")
    wanted = patterns(sys.argv[split + 1:])
    if len(wanted) < 4:
        sys.exit("nothing to look for")
    anything = re.compile(b"|".join(re.escape(p) for p in sorted(wanted, key=len, reverse=True)))
    seen, size = {}, 0
    for where in sys.argv[1:split]:
        pid = int(where) if where.isdigit() else None
        if pid:
            os.kill(pid, signal.SIGSTOP)
        try:
            for place, data in chunks_of_process(pid) if pid else chunks_of_file(where):
                size += len(data)
                for m in anything.finditer(data):
                    places = seen.setdefault(wanted[m.group()], {})
                    places[place] = places.get(place, 0) + 1
        finally:
            if pid:
                os.kill(pid, signal.SIGCONT)
    for what, places in sorted(seen.items()):
        print(what, sum(places.values()), *(f"{p}:{n}" for p, n in places.items()))
    print(f"looked through {size >> 10} KiB", file=sys.stderr)
    sys.exit(1 if seen else 0)


main()
