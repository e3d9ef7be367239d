# SPDX-License-Identifier: Apache-2.0
"""Certificates that a CA should not have issued, made for the CSR that the client sent."""

import os
import subprocess
import tempfile
import threading

CONFIG = """
[ca]
default_ca = x
[x]
dir = {dir}
database = {dir}/index.txt
new_certs_dir = {dir}
serial = {dir}/serial
default_md = sha256
unique_subject = no
email_in_dn = no
policy = any
[any]
commonName = optional
[leaf]
{leaf}
[upper]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
"""
LEAF = """basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = {san}
"""


def run(*command, stdin=None):
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError("%s: %s" % (" ".join(command), done.stderr.decode()))
    return done.stdout


class Authority:
    """An intermediate whose root the client does not know: clients take what the CA gives."""

    def __init__(self, folder):
        self.dir = folder
        self.lock = threading.Lock()
        os.makedirs(folder)
        for name in ("root", "inter", "other"):
            run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out",
                self.path(name + ".key"))
        self.conf(LEAF.format(san="DNS:x"))
        for name, subject in (("root", "/CN=Hostile Root"), ("other", "/CN=Other Root")):
            run("openssl", "req", "-x509", "-new", "-key", self.path(name + ".key"), "-days", "90",
                "-subj", subject, "-config", self.path("conf"), "-extensions", "upper", "-out",
                self.path(name + ".pem"))
        run("openssl", "req", "-new", "-key", self.path("inter.key"), "-subj",
            "/CN=Hostile Intermediate", "-config", self.path("conf"), "-out",
            self.path("inter.csr"))
        run("openssl", "x509", "-req", "-in", self.path("inter.csr"), "-CA", self.path("root.pem"),
            "-CAkey", self.path("root.key"), "-CAcreateserial", "-days", "90", "-extfile",
            self.path("conf"), "-extensions", "upper", "-out", self.path("inter.pem"))
        # For leaves with another key than the CSR's, and one that is too weak to be taken at all.
        run("openssl", "req", "-new", "-key", self.path("other.key"), "-subj", "/CN=w", "-config",
            self.path("conf"), "-outform", "DER", "-out", self.path("foreign.csr"))
        run("openssl", "genrsa", "-out", self.path("weak.key"), "512")
        run("openssl", "req", "-new", "-key", self.path("weak.key"), "-subj", "/CN=w", "-config",
            self.path("conf"), "-outform", "DER", "-out", self.path("weak.csr"))
        self.inter = self.read("inter.pem")
        self.root = self.read("root.pem")
        self.other = self.read("other.pem")

    def path(self, name):
        return os.path.join(self.dir, name)

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def conf(self, leaf):
        folder = self.dir
        with open(self.path("conf"), "w", encoding="ascii") as f:
            f.write("[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=x\n")
            f.write(CONFIG.format(dir=folder, leaf=leaf))

    def leaf(self, csr, san, start=None, end=None, extensions=LEAF, subject="/CN=w"):
        """The PEM of a leaf for the DER @csr."""
        with tempfile.TemporaryDirectory(dir=self.dir) as folder:
            conf, request = os.path.join(folder, "conf"), os.path.join(folder, "csr.pem")
            run("openssl", "req", "-inform", "DER", "-out", request, stdin=csr)
            open(os.path.join(folder, "index.txt"), "w", encoding="ascii").close()
            with open(os.path.join(folder, "serial"), "w", encoding="ascii") as f:
                f.write("%032x\n" % (int.from_bytes(os.urandom(15), "big") | 1))
            with open(conf, "w", encoding="ascii") as f:
                f.write(CONFIG.format(dir=folder, leaf=extensions.format(san=san)))
            dates = ["-startdate", start] if start else []
            dates += ["-enddate", end] if end else ["-days", "60"]
            return run("openssl", "ca", "-batch", "-notext", "-config", conf, "-extensions",
                       "leaf", "-in", request, "-cert", self.path("inter.pem"), "-keyfile",
                       self.path("inter.key"), "-subj", subject, *dates)

    def issue(self, name, csr, dns):
        """A chain as @name says: what is wrong with it."""
        san = "DNS:" + dns
        if name in WRONG_LEAF:
            kind = WRONG_LEAF[name]
            return self.leaf(csr, kind.get("san", san).replace("NAME", dns), kind.get("start"),
                             kind.get("end"), kind.get("extensions", LEAF)) + self.inter
        if name == "key of somebody else":
            return self.leaf(self.read("foreign.csr"), san) + self.inter
        if name == "RSA-512":
            return self.leaf(self.read("weak.csr"), san) + self.inter
        good = self.leaf(csr, san)
        return WRONG_CHAIN[name](self, good)


NO_SAN = "basicConstraints = critical,CA:FALSE\nextendedKeyUsage = serverAuth\n"
WRONG_LEAF = {
    "name missing": {"san": "DNS:other.test"},
    "wildcard for an exact name": {"san": "DNS:*.test"},
    "name more than asked for": {"san": "DNS:NAME,DNS:bank.test"},
    "IP more than asked for": {"san": "DNS:NAME,IP:192.0.2.1"},
    "e-mail more than asked for": {"san": "DNS:NAME,email:a@b.test"},
    "1001 names": {"san": "DNS:NAME," + ",".join("DNS:a%d.test" % i for i in range(1000))},
    "otherName": {"san": "DNS:NAME,otherName:1.2.3.4;UTF8:x"},
    "common name only": {"extensions": NO_SAN},
    "CA:TRUE": {"extensions": LEAF.replace("CA:FALSE", "CA:TRUE")},
    "client certificate": {"extensions": LEAF.replace("serverAuth", "clientAuth")},
    "expired": {"start": "20200101000000Z", "end": "20200201000000Z"},
    "from the future": {"start": "20900101000000Z", "end": "20910101000000Z"},
    "ends before it begins": {"start": "20900101000000Z", "end": "20200201000000Z"},
}
WRONG_CHAIN = {
    "good": lambda a, leaf: leaf + a.inter,
    "good with its root": lambda a, leaf: leaf + a.inter + a.root,
    "good with text around": lambda a, leaf: b"# chain\n" + leaf + b"\n\n" + a.inter + b"\n",
    "without its issuer": lambda a, leaf: leaf,
    "issuer first": lambda a, leaf: a.inter + leaf,
    "issuer twice": lambda a, leaf: leaf + a.inter + a.inter,
    "leaf twice": lambda a, leaf: leaf + leaf + a.inter,
    "unrelated intermediate": lambda a, leaf: leaf + a.other,
    "unrelated one behind": lambda a, leaf: leaf + a.inter + a.other,
    "eleven certificates": lambda a, leaf: leaf + a.inter * 10,
    "NULs behind": lambda a, leaf: leaf + a.inter + b"\0" * 4096,
    "private key behind": lambda a, leaf: leaf + a.inter + a.read("other.key"),
    "garbage PEM": lambda a, leaf: leaf[:60] + b"!!!!" + leaf[64:] + a.inter,
    "PEM without end": lambda a, leaf: (leaf + a.inter)[:-20],
    "base64 of nothing": lambda a, leaf: b"-----BEGIN CERTIFICATE-----\nAAAA\n"
    b"-----END CERTIFICATE-----\n",
    "300 KB": lambda a, leaf: leaf + a.inter + b"\n" * 300000,
    "empty": lambda a, leaf: b"",
}
ACCEPTED = {"good", "good with its root", "good with text around"}
EITHER = {"NULs behind"}
ALL = sorted(WRONG_LEAF) + ["key of somebody else", "RSA-512"] + sorted(WRONG_CHAIN)
