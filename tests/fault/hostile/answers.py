# SPDX-License-Identifier: Apache-2.0
"""Wrong answers that are well-formed HTTP: statuses, problems, nonces, JSON, URLs, orders."""

import json
import re

from wire import JSON, WIRE

PROBLEM = ("Content-Type", "application/problem+json")
ERROR = "urn:ietf:params:acme:error:"
READS = ["directory", "newNonce", "newAccount", "authz", "orderBefore", "orderAfter",
         "certificate", "revokeCert", "account"]
WITH_URLS = ["directory", "newAccount", "newOrder", "authz", "orderBefore", "finalize",
             "orderAfter"]
ORDERS = ["newOrder", "orderBefore", "finalize", "orderAfter"]
PARSED = WITH_URLS + ["account", "accountUpdate"]
KINDS = ["directory", "newNonce", "newAccount", "newOrder", "authz", "challenge", "orderBefore",
         "finalize", "orderAfter", "certificate", "alternate", "revokeCert", "account",
         "accountUpdate"]
# Reached by way of an order that failed. What they answer changes nothing: it has failed.
AFTERMATH = ["authzAfter", "authzDeactivate"]


class Case:
    """@expect: "refuse" (exit is not 0), "accept" (is 0), "any". @prelude: (kind, answer) of a run
    before it, on the same storage."""

    def __init__(self, kind, name, answer, expect="any", slow=False, once=False, natural=False,
                 prelude=None):
        self.kind, self.name, self.answer, self.expect = kind, name, answer, expect
        self.slow, self.once, self.natural, self.prelude = slow, once, natural, prelude

    # As far as HTTP tells these came whole: a certificate that is none, so another order is fair.
    WHOLE = ("gzip bomb", "Content-Length too small")

    def keeps_order(self):
        """The order is finalized and the answer tells nothing of it: whoever comes next has to go
        on with this order, as a second one means a second certificate."""
        return self.prelude is not None or (
            self.kind in ("orderAfter", "certificate") and self.expect == "refuse" and
            self.name not in self.WHOLE and
            (self.name in {w[0] for w in WIRE} or re.match("50[0234] (HTML|JSON|empty)", self.name)))

    def __str__(self):
        return "%s: %s" % (self.kind, self.name)


def static(status, headers, body):
    return lambda x: x.reply(status, list(headers), body)


def problem(status, kind, detail="no", more=()):
    body = json.dumps({"type": ERROR + kind, "detail": detail, "status": status}).encode()
    return static(status, [PROBLEM, *more], body)


def mutate(change):
    """Of the genuine answer: change(x, status, headers, body) gives the three that are sent."""

    def answer(x):
        status, headers, body = x.forward()
        return x.reply(*change(x, status, headers, body))

    return answer


def mutate_json(change):
    def on(x, status, headers, body):
        value = json.loads(body) if body else {}
        value = change(x, value) or value
        return status, headers, json.dumps(value).encode()

    return mutate(on)


def with_header(name, *values):
    def on(_x, status, headers, body):
        kept = [h for h in headers if h[0].lower() != name.lower()]
        return status, kept + [(name, v) for v in values], body

    return mutate(on)


# ------------------------------------------------------------------ everywhere

HTML = b"<html><head><title>Sorry</title></head><body><h1>Out of order</h1></body></html>"


def statuses():
    out = []
    for status in (500, 502, 503, 504):
        out += [("%d HTML" % status, static(status, [("Content-Type", "text/html")], HTML)),
                ("%d JSON" % status, static(status, [JSON], b'{"error":"oops"}'))]
    out += [("500 empty", static(500, [JSON], b"")),
            ("503 without content type", static(503, [], b"busy")),
            ("502 huge page", static(502, [("Content-Type", "text/html")], HTML * 4000)),
            ("500 serverInternal", problem(500, "serverInternal"))]
    for status, kind in ((400, "malformed"), (401, "unauthorized"), (403, "unauthorized"),
                         (404, "malformed"), (409, "conflict"), (429, "rateLimited")):
        out += [("%d problem" % status, problem(status, kind)),
                ("%d without problem" % status, static(status, [], b""))]
    for name, value in (("past date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("10^12", "1000000000000"),
                        ("negative", "-5"), ("garbage", "s\x7foon; $(id)"),
                        ("10^40", "1" + "0" * 40), ("far date", "Fri, 31 Dec 9999 23:59:59 GMT")):
        out.append(("429 Retry-After " + name,
                    problem(429, "rateLimited", more=[("Retry-After", value)])))
        out.append(("503 Retry-After " + name, static(503, [("Retry-After", value)], b"")))
    out += [("301 to another origin", static(301, [("Location", "https://127.0.0.2:9/x")], b"")),
            ("307 to http", static(307, [("Location", "http://127.0.0.1:9/x")], b"")),
            ("302 to file", static(302, [("Location", "file:///etc/passwd")], b"")),
            ("302 to nowhere", static(302, [], b"")),
            ("308 to itself", lambda x: x.reply(308, [("Location", x.req.path)], b"")),
            ("204", static(204, [], b"")), ("304", static(304, [], b""))]
    return out


HOSTILE_TEXT = [
    ("path", "../../../../../../etc/passwd"), ("NUL", "a\0b"), ("shell", "$(touch pwned)`id`;|&"),
    ("ESC", "\x1b]0;owned\x07\x1b[31m\x9b2J"), ("CRLF", "a\r\nSet-Cookie: b\r\n\r\nc"),
    ("format", "%n%s%99999d"), ("1 MB", "A" * 1000000), ("15 KB", "B" * 15000),
    ("bidi", "\u202e\u2066evil\u200b\ufeff"),
]


def texts():
    out = []
    for name, text in HOSTILE_TEXT:
        body = json.dumps({"type": text, "detail": text, "title": text, "status": 403, "subproblems":
                           [{"type": text, "detail": text, "identifier": {"value": text}}] * 5})
        out.append(("problem with " + name, static(403, [PROBLEM], body.encode())))
    raw = b'{"type":"%s","detail":"\x1b[31m\xff\xfe\x00"}' % ERROR.encode()
    out.append(("problem with raw bytes", static(403, [PROBLEM], raw)))
    return out


def nonces():
    return [
        ("badNonce for ever", lambda x: problem(400, "badNonce", more=[
            ("Replay-Nonce", "bm9uY2U%04d" % x.flow.counts[x.kind])])(x), "any"),
        ("badNonce without nonce", problem(400, "badNonce"), "any"),
        ("no nonce", with_header("Replay-Nonce"), "any"),
        ("illegal nonce", with_header("Replay-Nonce", 'a b/"\x1b[1m$(id)'), "any"),
        ("nonce twice", with_header("Replay-Nonce", "b25l", "dHdv"), "any"),
        ("nonce of 1 KB", with_header("Replay-Nonce", "A" * 1024), "any"),
        ("nonce of 10 KB", with_header("Replay-Nonce", "A" * 10240), "refuse"),
        ("nonce with line break", with_header("Replay-Nonce", "YWJj\r\nX-Evil: 1"), "any"),
    ]


def retype(value):
    """The same members, each of another type."""
    if isinstance(value, dict):
        return {k: retype(v) for k, v in value.items()}
    if isinstance(value, list):
        return {"0": retype(value[0])} if value else ""
    return {"x": [value]} if isinstance(value, str) else str(value)


def duplicate(x, status, headers, body):
    value = json.loads(body)
    first = next(iter(value), "status")
    return status, headers, body.rstrip()[:-1] + b',"%s":null}' % first.encode()


JSONS = [
    ("truncated JSON", mutate(lambda x, s, h, b: (s, h, b[: len(b) // 2])), "refuse"),
    ("wrong types", mutate_json(lambda x, v: retype(v)), "refuse"),
    ("null for all", mutate_json(lambda x, v: {k: None for k in v}), "refuse"),
    ("numbers for all", mutate_json(lambda x, v: {k: 1e308 for k in v}), "refuse"),
    ("member twice", mutate(duplicate), "refuse"),
    ("10^5 deep", static(200, [JSON], b'{"a":' * 100000 + b"1" + b"}" * 100000), "refuse"),
    ("10^4 deep", static(200, [JSON], b'{"a":' + b"[" * 30000 + b"]" * 30000 + b"}"), "refuse"),
    ("invalid UTF-8", mutate(lambda x, s, h, b: (s, h, b.replace(b'":', b'\xc3\x28":', 1))),
     "refuse"),
    ("huge number", mutate(lambda x, s, h, b: (
        s, h, b.rstrip()[:-1] + b',"status":%s}' % (b"9" * 5000))), "refuse"),
    ("a list", static(200, [JSON], b"[]"), "refuse"),
    ("null", static(200, [JSON], b"null"), "refuse"),
    ("empty object", static(200, [JSON], b"{}"), "refuse"),
    ("empty", static(200, [JSON], b""), "refuse"),
    ("HTML with 200", static(200, [("Content-Type", "text/html")], HTML), "refuse"),
    ("5000 empty objects", static(200, [JSON], b'{"a":[' + b"{}," * 4999 + b"{}]}"), "refuse"),
    ("UTF-16", mutate(lambda x, s, h, b: (s, h, b.decode().encode("utf-16"))), "refuse"),
    ("another type of content", with_header("Content-Type", "image/png"), "accept"),
    ("unknown members", mutate_json(lambda x, v: dict(
        v, grease={"a": [1, {"b": None}]}, **{"\u00e9\x01": "x" * 2000})), "accept"),
]

# ------------------------------------------------------------- URLs in answers


def other_url(url):
    def at(x, value):
        return url(x) if callable(url) else url

    def walk(x, value, key=""):
        if isinstance(value, dict):
            return {k: walk(x, v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(x, v, key) for v in value]
        if isinstance(value, str) and value.startswith(x.slot.base):
            return at(x, value)
        return value

    def on(x, status, headers, body):
        try:
            text = json.dumps(walk(x, json.loads(body))).encode()
        except ValueError:
            text = body
        headers = [(n, at(x, v)) if n == "Location" else (n, v) for n, v in headers]
        headers = [(n, v.encode("ascii", "replace").decode()) for n, v in headers]
        return status, headers, text

    return mutate(on)


URLS = [
    ("URLs of another origin", "https://127.0.0.2:9/x"), ("URLs of http", "http://127.0.0.1:9/x"),
    ("URLs of file", "file:///etc/passwd"), ("URLs relative", "/x/y"), ("URLs empty", ""),
    ("URLs with credentials", lambda x: "https://user:secret@%s/x" % x.slot.host),
    ("URLs with another host behind @", lambda x: "https://%s@127.0.0.2:9/x" % x.slot.host),
    ("URLs with backslash", lambda x: x.slot.base + "\\@127.0.0.2:9/x"),
    ("URLs with ESC", lambda x: x.slot.base + "/\x1b[31mx"),
    ("URLs with line break", lambda x: x.slot.base + "/x HTTP/1.1\r\nX-Evil: 1\r\n\r\n"),
    ("URLs with NUL", lambda x: x.slot.base + "/x\0y"),
    ("URLs of 100 KB", lambda x: x.slot.base + "/" + "x" * 60000),
    ("URLs to metadata", "https://169.254.169.254/latest/meta-data"),
    ("URLs with a decimal host", "https://2130706434:9/x"),
]

# ------------------------------------------------------------ orders, authorizations


def order(**members):
    return mutate_json(lambda x, v: dict(v, **{
        k: m(x, v) if callable(m) else m for k, m in members.items()}))


def idents(*values):
    return [{"type": "dns", "value": v} for v in values]


ORDER = [
    ("no authorizations", order(authorizations=[]), ["newOrder", "orderBefore"], "any", True),
    ("10^4 authorizations", order(authorizations=lambda x, v: v["authorizations"] * 10000), ORDERS,
     "refuse", False),
    ("300 authorizations", order(authorizations=lambda x, v: [
        "%s/authZ/%d" % (x.slot.base, i) for i in range(300)]), ORDERS, "refuse", False),
    ("200 equal authorizations", order(authorizations=lambda x, v: v["authorizations"] * 200),
     ["newOrder"], "any", False),
    ("identifier not asked for", order(identifiers=lambda x, v: v["identifiers"] +
                                       idents("bank.test")), ["newOrder"], "refuse", False),
    ("other identifier", order(identifiers=idents("bank.test")), ["newOrder"], "refuse", False),
    ("hostile identifier", order(identifiers=idents("../\x1b[31m\0$(id)\r\n")), ["newOrder"],
     "refuse", False),
    ("no identifiers", order(identifiers=[]), ["newOrder"], "refuse", False),
    ("valid without certificate", order(status="valid", certificate=None), ORDERS, "refuse", False),
    ("invalid", order(status="invalid"), ORDERS, "refuse", False),
    ("invalid with hostile error", order(status="invalid", error={
        "type": "\x1b[2J" * 50, "detail": "\r\n$(id)" * 500, "status": -1}), ORDERS, "refuse",
     False),
    ("unknown status", order(status="\x1bnew"), ORDERS, "refuse", False),
    ("pending for ever", order(status="pending"), ["orderBefore", "orderAfter"], "refuse", True),
    ("processing for ever", order(status="processing"), ["orderBefore", "finalize", "orderAfter"],
     "any", True),
    ("ready for ever", order(status="ready", certificate=None), ["finalize", "orderAfter"],
     "refuse", True),
    ("processing for 10^12 s", mutate(lambda x, s, h, b: (
        s, h + [("Retry-After", "1000000000000")],
        json.dumps(dict(json.loads(b), status="processing")).encode())),
     ["orderBefore", "orderAfter"], "refuse", True),
    ("no finalize", order(finalize=None), ["newOrder", "orderBefore"], "any", True),
]


def authz(**members):
    return order(**members)


def challenges(change):
    def on(x, value):
        value["challenges"] = [c for c in map(change, value.get("challenges", [])) if c]
        return value

    return mutate_json(on)


def token(value):
    return challenges(lambda c: dict(c, token=value))


AUTHZ = [  # name, answer, expectation
    ("no challenge", challenges(lambda c: None), "refuse"),
    ("none that we know", challenges(lambda c: dict(c, type="carrier-pigeon-01")), "refuse"),
    ("token empty", token(""), "refuse"), ("token of 10 KB", token("A" * 10240), "refuse"),
    ("token ../x", token("../../../../x"), "refuse"), ("token with NUL", token("a\0b"), "refuse"),
    ("token $(id)", token("$(id)"), "refuse"), ("token ESC", token("\x1b[31m"), "refuse"),
    ("token a number", token(7), "refuse"), ("token missing", challenges(
        lambda c: {k: v for k, v in c.items() if k != "token"}), "refuse"),
    ("each challenge twice", mutate_json(lambda x, v: dict(v, challenges=[
        c for c in v["challenges"] for _ in (0, 1)])), "accept"),
    ("33 challenges", mutate_json(lambda x, v: dict(v, challenges=(v["challenges"] * 33)[:33])),
     "refuse"),
    ("challenge of another origin", challenges(lambda c: dict(c, url="https://127.0.0.2:9/c")),
     "refuse"),
    ("another identifier", authz(identifier={"type": "dns", "value": "bank.test"}), "refuse"),
    ("identifier with path", authz(identifier={"type": "dns", "value": "../../x"}), "refuse"),
    ("identifier ESC", authz(identifier={"type": "dns", "value": "\x1b[31m\r\n"}), "refuse"),
    ("an IP identifier", authz(identifier={"type": "ip", "value": "192.0.2.1"}), "refuse"),
    ("no identifier", authz(identifier=None), "refuse"),
    ("invalid", authz(status="invalid"), "refuse"),
    ("deactivated", authz(status="deactivated"), "refuse"),
    ("unknown status", authz(status="odd"), "refuse"),
    ("valid at once", authz(status="valid"), "any"),
]

# ------------------------------------------------------------------- alternates


def links(make):
    def on(x, status, headers, body):
        kept = [h for h in headers if h[0].lower() != "link"]
        return status, kept + [("Link", v) for v in make(x)], body

    return mutate(on)


def link(x, path):
    return '<%s%s>;rel="alternate"' % (x.slot.base, path)


LINKS = [
    ("no alternates", links(lambda x: [])),
    ("80 alternates", links(lambda x: [link(x, "%s/alternate/%d" % (x.req.path, i))
                                       for i in range(80)])),
    ("alternate is itself", links(lambda x: [link(x, x.req.path)] * 20)),
    ("alternate of another origin", links(lambda x: ['<https://127.0.0.2:9/x>;rel="alternate"'])),
    ("alternate of file", links(lambda x: ['<file:///etc/passwd>;rel="alternate"'])),
    ("alternate without end", links(lambda x: ["<" + "x" * 4000])),
    ("alternate with ESC", links(lambda x: ['</\x1b[31m>;rel="alternate"'])),
]


def wrong_certificate(name):
    def answer(x):
        status, headers, _body = x.forward()
        pem = x.slot.authority.issue(name, x.flow.csr, x.slot.name)
        kept = [h for h in headers if h[0].lower() != "link"]
        return x.reply(status, kept, pem)

    return answer


# ------------------------------------------------------------------------ cases


def expected(kind, expect):
    """Where an answer's body is not read, or the failure is of no consequence, both may be."""
    if kind in ("alternate", "challenge", "newNonce", "revokeCert", *AFTERMATH):
        return "any"
    return expect


def cases_of(kind):
    out = []
    for name, answer in statuses():
        out.append(Case(kind, name, answer,
                        "any" if kind in ("alternate", *AFTERMATH) or
                        re.match("2|308 to itself", name) else "refuse"))
    if kind in ("newNonce", "orderBefore"):  # 304 and 204 have no body that would be missed
        out = [c for c in out if c.name not in ("204",)]
    if kind in READS:
        out.append(Case(kind, "503 once", static(503, [], b""), "accept", once=True))
        out.append(Case(kind, "reset once", dict((w[0], w[1]) for w in WIRE)["cut before the answer"],
                        "accept", once=True))
    for case in out:  # the CA does not start to validate, and does not say so
        case.slow = kind == "challenge" and case.name == "204"
    for name, answer in texts():
        out.append(Case(kind, name, answer, expected(kind, "refuse")))
    if kind not in ("directory", "newNonce"):
        for name, answer, expect in nonces():
            out.append(Case(kind, name, answer, expected(kind, expect)))
    else:
        out += [Case(kind, n, a, "any") for n, a, _ in nonces()[2:]]
    if kind in PARSED:
        for name, answer, expect in JSONS:
            if name == "huge number" and kind == "directory":  # a member that nobody looks at
                expect = "accept"
            out.append(Case(kind, name, answer, expect))
    if kind in WITH_URLS:
        out += [Case(kind, name, other_url(url), "any") for name, url in URLS]
    for name, answer, expect, slow in WIRE:
        out.append(Case(kind, name, answer, wire_expect(kind, name, expect),
                        slow or (kind == "challenge" and name == "gzip bomb")))
    return out


def wire_expect(kind, name, expect):
    if expected(kind, expect) == "any":
        return "any"
    if kind == "finalize":  # the order tells what became of it
        return "any"
    return expect


def aftermath():
    keep = ("500 HTML", "403 problem", "problem with ESC", "problem with 1 MB", "cut in the body",
            "body endless", "badNonce for ever", "301 to another origin", "no answer")
    return [c for kind in AFTERMATH for c in cases_of(kind) if c.name in keep]


def all_cases(certificates, connects):
    out = [c for kind in KINDS for c in cases_of(kind)]
    out += aftermath()
    for name, answer, kinds, expect, slow in ORDER:
        out += [Case(kind, "order " + name, answer, expect, slow) for kind in kinds]
    out += [Case("authz", "authorization " + n, a, e, n == "valid at once") for n, a, e in AUTHZ]
    out += [Case("certificate", n, a, "accept") for n, a in LINKS]
    for name in certificates.ALL:
        expect = "accept" if name in certificates.ACCEPTED else "refuse"
        if name in certificates.EITHER:
            expect = "any"
        out.append(Case("certificate", "certificate " + name, wrong_certificate(name), expect))
    cut = ("orderAfter", next(w[1] for w in WIRE if w[0] == "cut before the answer"))
    for name, answer in statuses():
        if re.match("50", name):
            out.append(Case("orderBefore", "resumed order, " + name, answer, "refuse",
                            prelude=cut))
    for name, answer, expect, slow in connects:
        out.append(Case("connect", name, answer, expect, slow))
    for kind, name in (("directory", "no answer"), ("newOrder", "slow header"),
                       ("certificate", "1 byte a second"), ("orderBefore", "no answer")):
        found = next(w for w in WIRE if w[0] == name)
        out.append(Case(kind, name + ", to the limit", found[1], "refuse", natural=True))
    return out
