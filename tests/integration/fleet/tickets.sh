#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Session tickets of one server are good at another on the same storage, over a rotation of their
# keys and not over two; never for another name, nor without sharing.
. "$(dirname "$0")/common.sh"

mkdir -m 700 "$store"
"$CERTMESH" trust --root "$store" --out "$work/root.pem" -q || { echo "Bail out! no root"; exit 1; }

session() { # LABEL VERSION NAME FILE: a full handshake, and its session
    rm -f "$4"
    { printf 'GET / HTTP/1.0\r\n\r\n'; sleep 0.3; } | timeout 10 openssl s_client \
        -connect "127.0.0.1:${node_port[$1]}" -CAfile "$work/root.pem" "$2" -servername "$3" \
        -sess_out "$4" >/dev/null 2>&1
}

how() { # LABEL VERSION NAME FILE: New or Reused
    timeout 10 openssl s_client -connect "127.0.0.1:${node_port[$1]}" -CAfile "$work/root.pem" "$2" \
        -servername "$3" -sess_in "$4" -verify_return_error </dev/null 2>&1 |
        sed -n 's/^\(New\|Reused\), .*/\1/p'
}

keys() {
    awk '/^key/ { print $2 }' "$store/certmesh/tickets"
}

has_begun() { # ID: is that key in use?
    local from
    from=$(awk -v id="$1" '$2 == id { print $4 }' "$store/certmesh/tickets")
    [ -n "$from" ] && [ "$(date +%s)" -ge "$(date -d "$from" +%s)" ]
}

shared() { # LABEL...: has it read the keys? Then it resumes what another gave.
    session a -tls1_3 a.test "$work/probe" && [ "$(how "$1" -tls1_3 a.test "$work/probe")" = Reused ]
}

start a a.test b.test
start b a.test b.test
check "both have the keys" await shared b
for v in -tls1_2 -tls1_3; do
    session a "$v" a.test "$work/s"
    is "$v: a ticket of A resumes at A" "$(how a "$v" a.test "$work/s")" Reused
    session a "$v" a.test "$work/s"
    is "$v: a ticket of A resumes at B" "$(how b "$v" a.test "$work/s")" Reused
    session b "$v" a.test "$work/s"
    is "$v: a ticket of B resumes at A" "$(how a "$v" a.test "$work/s")" Reused
    session a "$v" a.test "$work/s"
    is "$v: not for another name" "$(how b "$v" b.test "$work/s")" New
done
like "gnutls-cli resumes" "$(timeout 20 gnutls-cli --resume --x509cafile "$work/root.pem" \
    --sni-hostname a.test --verify-hostname a.test -p "${node_port[a]}" 127.0.0.1 </dev/null 2>&1)" \
    'This is a resumed session'

is "the keys are for their owner alone" "$(stat -c %a "$store/certmesh/tickets")" 600
is "one that makes tickets and its successor" "$(keys | wc -l)" 2

# ---- a server that starts anew, and one that does not share
session b -tls1_3 a.test "$work/s"
stop b
start b a.test b.test
still() {
    [ "$(how b -tls1_3 a.test "$work/s")" = Reused ]
}
check "the keys outlive a server" await still
start own --no-shared-tickets a.test
session own -tls1_3 a.test "$work/s"
is "who does not share resumes its own" "$(how own -tls1_3 a.test "$work/s")" Reused
session own -tls1_3 a.test "$work/s"
is "... and nobody else does" "$(how a -tls1_3 a.test "$work/s")" New

# ---- storage is damaged, and away
cp "$store/certmesh/tickets" "$work/keys"
stop own
echo rubbish >"$store/certmesh/tickets"
start c a.test
check "a damaged record is replaced" await grep -q "written anew" "$work/c.err"
check "by keys" test "$(keys | wc -l)" = 2
stop c
cp "$work/keys" "$store/certmesh/tickets"
stop a
stop b

# ---- rotation, as fast as it goes: a minute
rm "$store/certmesh/tickets"
start a --ticket-rotation 60s a.test b.test
start b --ticket-rotation 60s a.test b.test
check "both have the keys again" await shared b
mapfile -t first < <(keys)
session a -tls1_2 a.test "$work/old.2"
session a -tls1_3 a.test "$work/old.3"
for ((i = 0; i < 800; i++)); do
    has_begun "${first[1]}" && break
    sleep 0.1
done
sleep 1
is "after a rotation: TLS 1.2" "$(how b -tls1_2 a.test "$work/old.2")" Reused
is "after a rotation: TLS 1.3" "$(how b -tls1_3 a.test "$work/old.3")" Reused
session b -tls1_3 a.test "$work/new"
is "what is made now is made with the next" "$(how a -tls1_3 a.test "$work/new")" Reused
for ((i = 0; i < 800; i++)); do
    keys | grep -q "${first[0]}" || break
    sleep 0.1
done
sleep 2
is "after two rotations: TLS 1.2" "$(how b -tls1_2 a.test "$work/old.2")" New
is "after two rotations: TLS 1.3" "$(how b -tls1_3 a.test "$work/old.3")" New
is "the first key is gone from storage" "$(keys | grep -c "${first[0]}")" 0
is "and what is not so old still resumes" "$(how a -tls1_3 a.test "$work/new")" Reused

stop a
stop b
found=$(cat "$work"/keys "$store/certmesh/tickets" | awk '/^key/ { print $5 }' |
    grep -c -F -f - "$work"/*.err "$work"/*.out | grep -cv ':0$')
is "no key is ever printed" "$found" 0
tap_done
