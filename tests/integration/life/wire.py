#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""wire.py: from what `openssl s_client -status` printed, "SERIAL STAPLE": the serial number of the
leaf, and what is stapled to it: good, revoked, unknown, none; wrong: about another certificate,
without or past its nextUpdate, or before its thisUpdate; other: no successful response."""

import datetime
import re
import subprocess
import sys


def serial_of(number):
    return number.strip().lower().lstrip("0")


def time_of(text, what):
    found = re.search(what + r": (\w{3} +\d+ [\d:]+ \d{4}) GMT", text)
    if not found:
        return None
    return datetime.datetime.strptime(found.group(1), "%b %d %H:%M:%S %Y").replace(
        tzinfo=datetime.timezone.utc)


def staple_of(text, leaf):
    now = datetime.datetime.now(datetime.timezone.utc)
    if "OCSP response: no response sent" in text:
        return "none"
    if "OCSP Response Status: successful" not in text:
        return "other"
    about = re.findall(r"Serial Number: ([0-9A-Fa-f]+)\n\s+Cert Status", text)
    status = re.findall(r"Cert Status: (\w+)", text)
    this, following = time_of(text, "This Update"), time_of(text, "Next Update")
    if [serial_of(one) for one in about] != [leaf] or len(status) != 1:
        return "wrong"
    if this is None or this > now + datetime.timedelta(minutes=5):
        return "wrong"
    if following is not None and following < now - datetime.timedelta(seconds=1):
        return "wrong"
    return status[0]


def main():
    text = sys.stdin.read()
    # That of who signed the staple may come before it.
    pem = re.search(r"^Server certificate\n(-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----)",
                    text, re.S | re.M)
    if not pem:
        print("no certificate")
        return
    told = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=pem.group(1),
                          capture_output=True, text=True, check=True).stdout
    leaf = serial_of(told.split("=")[1])
    print(leaf, staple_of(text, leaf))


main()
