#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# status and why: good names, names that fail, what is broken, who works on one; and that looking
# changes nothing.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

store=$work/store
export CERTMESH_STORAGE=file:$store CERTMESH_CA=internal

# ---- nothing there yet
run status
is "status of empty storage: exit code 0" "$rc" 0
is "status of empty storage: nothing on stdout" "$out" ""
like "status of empty storage: says so" "$err" "no names in file:.*$store"
run status --json
is "status --json of empty storage" "$(json 'd["names"], d["n_problems"]')" '([], 0)'
fails "status of a name that nobody knows" 7 "status a\.test: .*knows nothing of 'a\.test'" cm status a.test
fails "why of a name that nobody knows" 7 "why a\.test: .*knows nothing of 'a\.test'" cm why a.test
fails "why wants a name" 2 'which name' cm why
fails "status of a malformed name" 2 'a\.\.b' cm status a..b

# ---- good ones
cm obtain -q a.test b.test 2>/dev/null
cm obtain -q --san x.test y.test 2>/dev/null
before=$(cd "$store" && find . -type f -printf '%p %T@ %s\n' | sort)
run status
is "status: all good is exit code 0" "$rc" 0
like "status: the columns" "$out" '^NAME +STATE +UNTIL +NEXT +ATTEMPTS +STAPLE$'
like "status: a row" "$out" '^a\.test +good +[0-9-]+ [0-9:]+ \(in 12 h\) +renew in 6 h +- +-$'
like "status: several names" "$out" '^x\.test \+1 +good '
is "status: no line is longer than 100 columns" "$(awk 'length > 100' <<<"$out")" ""
run status --problems
is "status --problems: none" "$rc:$out" "0:"
like "status --problems: says so" "$err" 'no problems in'
run status --json
is "status --json: names and states" "$(json 'sorted((n["name"], n["state"]) for n in d["names"])')" \
    "[('a.test', 'good'), ('b.test', 'good'), ('x.test,y.test', 'good')]"
is "status --json: the members of a name" "$(json 'sorted(d["names"][0])')" \
    "['ari', 'attempts', 'ca_paused_until', 'ca_reason', 'issuer_key', 'last_error', 'last_failed', 'lock', 'name', 'next_action', 'next_at', 'next_try', 'no_retry', 'not_after', 'not_before', 'ocsp_url', 'problem', 'renew_at', 'renew_rule', 'serial', 'staple', 'state']"
is "status --json: times in order" \
    "$(json 'all(n["not_before"] < n["renew_at"] == n["next_at"] < n["not_after"] for n in d["names"])')" True
is "status --json: the serial that show tells" "$(json 'd["names"][0]["serial"]')" \
    "$(cm show --json a.test | python3 -c 'import json, sys; print(json.load(sys.stdin)["certificates"][0]["serial"])')"
run status y.test b.test
is "status of two names, one by its other name" "$(awk 'NR > 1 { print $1, $2 }' <<<"$out" | xargs)" \
    "x.test +1 b.test good"
run status a.test nosuch.test
is "status: good and unknown ones: exit code 7" "$rc" 7
like "status: the good one is shown" "$out" '^a\.test +good'
run why a.test
is "why: exit code 0" "$rc" 0
like "why: what storage holds" "$out" '^Storage holds a certificate for a\.test from certmesh-local \(serial [0-9a-f]+, key p256\), valid until [0-9-]+ [0-9:]+ UTC \(in 1[12] hours\)\.$'
like "why: the rule" "$out" '^By its lifetime it is to be renewed at [0-9-]+ [0-9:]+ UTC \(in [56] hours\)'
like "why: nobody works on it" "$out" '^Nobody works on it just now\.$'
like "why: the outcome is the last line" "$(tail -n 1 <<<"$out")" '^So it is not due: nothing to do before '
run why --json x.test
is "why --json" "$(json 'd["name"], len(d["why"]) > 4')" "('x.test', True)"
is "looking has changed nothing" "$(cd "$store" && find . -type f -printf '%p %T@ %s\n' | sort)" "$before"

# ---- due, expired, damaged, failing
old=$store/certificates/old-ca/old.test
(umask 077 && mkdir -p "$old")
certtool --generate-privkey --ecc --outfile "$old/old.test.key" 2>/dev/null
printf '%s\n' 'dns_name = old.test' 'activation_date = 2020-01-01' 'expiration_date = 2020-04-01' \
    >"$work/old.cfg"
certtool --generate-self-signed --load-privkey "$old/old.test.key" --template "$work/old.cfg" \
    --outfile "$old/old.test.crt" 2>/dev/null
echo nonsense >"$store/certificates/certmesh-local/b.test/b.test.crt"
(umask 077 && mkdir -p "$store/certmesh/retry")
python3 - "$store/certmesh/retry" <<'PY'
import json, os, sys, time
def stamp(s):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + s))
def note(name, **more):
    with open(os.open(f"{sys.argv[1]}/{name}", os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        json.dump({"attempts": 4, "first": stamp(-9000), "last": stamp(-3600), "next": stamp(1800),
                   "no_retry": False, "status": "CM_E_NET", "issuer": "ca.test-dir", "problem": "",
                   "error": "connect to ca.test: no route\033[31m to host"} | more, f)
note("fails.test")
note("final.test", no_retry=True, status="CM_E_POLICY", error="not for this name")
PY
run status
is "status: problems are exit code 1" "$rc" 1
like "status: a name that fails and has no certificate" "$out" '^fails\.test +failing +- +retry in [0-9]+ min +4 failed +-$'
like "status: why it fails, below it" "$out" '^ +connect to ca\.test: no route'
is "status: no escape sequences from storage" "$(grep -c $'\033' "$work/out")" 0
like "status: what nobody tries again" "$out" '^final\.test +failing +- +- +4 failed +-$'
like "status: expired" "$out" '^old\.test +expired +2020-04-01 \([0-9]+ (days|years) ago|EXPIRED\)'
like "status: damaged" "$out" '^b\.test +damaged +- +obtain now'
like "status: the good one is there" "$out" '^a\.test +good '
run status --problems
is "status --problems: exit code 1" "$rc" 1
is "status --problems: just those" "$(awk 'NR > 1 && /^[a-z]/ { print $1 }' <<<"$out" | xargs)" \
    "b.test fails.test final.test old.test"
run status --json --problems
is "status --json --problems: how many" "$(json 'd["n_problems"], len(d["names"])')" '(4, 4)'
is "status --json: a failure" \
    "$(json '[(n["attempts"], n["next_action"], n["next_try"] == n["next_at"], n["not_after"]) for n in d["names"] if n["name"] == "fails.test"]')" \
    "[(4, 'retry', True, None)]"
run status a.test
is "status of a good name: the others do not count" "$rc" 0
run status a.test fails.test nosuch.test
is "status: a problem goes before what is not known" "$rc" 1
run why fails.test
is "why of a failing name: exit code 0" "$rc" 0
like "why: when and how it failed" "$out" '^The last attempt failed at [0-9-]+ [0-9:]+ UTC \(60 minutes ago\) \(attempt 4\), by ca\.test-dir: connect to ca\.test'
like "why: the next attempt" "$out" '^The next attempt is not made before .* \(in (29|30) minutes\)\.$'
is "why: no escape sequences from storage" "$(grep -c $'\033' "$work/out")" 0
run why final.test
is "why: nothing happens by itself" "$(tail -n 1 <<<"$out")" 'So nothing happens until somebody does something.'

# ---- a server whose CA cannot be reached
"$certmesh" serve --agree --ca "https://127.0.0.1:$(free_port)/dir" --listen 127.0.0.1 --no-http \
    --tls-port "$(free_port)" www.example.com >"$work/serve.out" 2>"$work/serve.err" </dev/null &
server=$!
check "a server notes that it failed" await test -e "$store/certmesh/retry/www.example.com"
run status www.example.com
is "status: what it could not get is a problem" "$rc" 1
like "status: it is tried again" "$out" '^www\.example\.com +failing +- +retry (in [0-9]+ s|now) +[0-9]+ failed +-$'
like "status: why it failed, below it" "$out" '^ +.*127\.0\.0\.1'
run why www.example.com
like "why: it is tried again" "$(tail -n 1 <<<"$out")" '^So whoever maintains it tries again at .* \((in [0-9]+ seconds?|now)\)\.$'
kill -TERM "$server"
wait "$server"
is "the server ends well" "$?" 0
server=

# ---- who works on it: a process with an unreachable CA holds the lock of the name
port=$(free_port)
python3 - "$port" <<'PY' &
import socket, sys, time
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
s.settimeout(60)
held = []
try:
    while True:
        held.append(s.accept())
except OSError:
    pass
PY
server=$!
await python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()' "$port"
"$certmesh" obtain --agree --ca "https://127.0.0.1:$port/dir" --timeout 60 a.test >/dev/null 2>&1 </dev/null &
obtain=$!
await test -e "$store/locks/issue_cert_a.test.lock"
run why a.test
like "why: who works on it" "$out" "^host $(hostname | tr -c 'A-Za-z0-9._\n-' _), process $obtain has held its lock for [0-9]+ seconds?: it is probably being renewed just now\.$"
run status --json a.test
is "status --json: who works on it" "$(json 'd["names"][0]["lock"]["holder"].split()[-1]')" "$obtain"
kill -TERM "$obtain"
wait "$obtain"
run status --json a.test
is "status --json: nobody any more" "$(json 'd["names"][0]["lock"]')" None
kill "$server" 2>/dev/null
wait "$server" 2>/dev/null
server=

# ---- results that cannot be written
cm status >/dev/full 2>"$work/err"
is "a full device is exit code 1" "$?" 1

tap_done
