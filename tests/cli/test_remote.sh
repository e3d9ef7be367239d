#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the command says when the CA is out of reach or says no. Loopback only.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

export CERTMESH_STORAGE=file:$work/store

port=$(free_port)
fails "a CA that nobody runs: exit code 6" 6 "obtain a.test: .*127\.0\.0\.1:$port" \
    cm obtain --agree --ca "https://127.0.0.1:$port/dir" a.test
run obtain --json --agree --ca "https://127.0.0.1:$port/dir" a.test
is "the failure as JSON" "$(json 'd["results"][0]["result"], d["results"][0]["error"]["status"]')" \
    "('failed', 'CM_E_NET')"
fails "--ca-root that is not there" 2 "$work/absent.pem" \
    cm obtain --agree --ca "https://127.0.0.1:$port/dir" --ca-root "$work/absent.pem" a.test
fails "wildcards need a challenge that is not there: exit code 4" 4 '\*\.a\.test' \
    cm obtain --agree --ca "https://127.0.0.1:$port/dir" '*.a.test'

# ---- external account binding: the key is a secret
secret=c2VjcmV0LWtleS1vZi10aGUtYWNjb3VudC1iaW5kaW5n
echo "$secret" >"$work/eab.key"
chmod 644 "$work/eab.key"
run obtain -v --agree --ca "https://127.0.0.1:$port/dir" --eab-kid k --eab-key-file "$work/eab.key" a.test
like "an EAB key that others can read is warned about" "$err" 'can be read by other users'
is "the EAB key is not printed" "$(grep -c "$secret" "$work/out" "$work/err" | cut -d: -f2 | xargs)" "0 0"
run help obtain
is "there is no option that takes the key itself" "$(grep -cE -- '--eab-(mac-)?key ' "$work/out")" 0

# ---- a hole that swallows connections: the deadline counts, and so does a signal
python3 - "$work/hole" <<'PY' &
import socket, sys, time
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(20)
open(sys.argv[1] + ".new", "w").write(str(s.getsockname()[1]))
import os
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(120)
PY
server=$!
await test -s "$work/hole"
hole=https://127.0.0.1:$(cat "$work/hole")/dir
from=$SECONDS
fails "a CA that does not answer: exit code 6" 6 'obtain a.test: ' \
    cm obtain --agree --ca "$hole" --timeout 2 a.test
at_most "--timeout is kept" $((SECONDS - from)) 10
for signal in INT TERM; do
    : >"$work/err" # or the last one's words are taken for this one's
    CERTMESH_EAB_KEY=$secret "$certmesh" obtain --agree --ca "$hole" --eab-kid k a.test b.test \
        >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
    await grep -q 'a.test' "$work/err"
    is "the key in the environment was wiped" \
        "$(tr '\0' '\n' <"/proc/$pid/environ" | grep -c "$secret")" 0
    from=$SECONDS
    kill -s "$signal" "$pid"
    wait "$pid"
    is "SIG$signal: exit code" "$?" "$([ $signal = INT ] && echo 130 || echo 143)"
    at_most "SIG$signal: promptly" $((SECONDS - from)) 5
    like "SIG$signal: says what is done" "$(cat "$work/err")" 'interrupted; 0 of 2 done'
done

tap_done
