#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# certmesh fleet: three servers on one storage; one that stands still, one that lags, one that is
# killed; and what is left of them.
. "$(dirname "$0")/common.sh"

mkdir -m 700 "$store"
fleet() { # [OPTION...]: sets out and rc
    out=$("$CERTMESH" fleet --root "$store" "$@" 2>&1)
    rc=$?
}
states() { # NODE=STATE... as they are, for await
    [ "$("$CERTMESH" fleet --root "$store" --json | python3 -c 'import json, sys
print(*("%s=%s:%d/%d/%d" % (n["node"], n["state"], n["n_names"], n["n_behind"], n["n_missing"])
        for n in json.load(sys.stdin)["nodes"]))')" = "$*" ]
}
patiently() { # COMMAND...: what nodes say comes every quarter of a minute
    local until=$((SECONDS + 60))
    while [ $SECONDS -lt $until ]; do
        "$@" && return 0
        sleep 0.5
    done
    return 1
}
entry() { # NODE: its folder
    dirname "$(grep -l "\"node\": \"$1\"" "$store"/certmesh/nodes/*/node)"
}
age() { # NODE: it was heard of eleven minutes ago
    sed -i "s/\"seen\": \"[^\"]*\"/\"seen\": \"$(date -u -d '-11 minutes' +%FT%TZ)\"/" "$(entry "$1")/node"
}

fleet
is "nobody is there: exit code 0" "$rc" 0
like "nobody is there" "$out" 'no node announces itself in file:///'

start a --node-name a a.test b.test
start b --node-name b a.test b.test
start c --node-name c a.test
start quiet --no-announce a.test
check "all are seen" patiently states a=current:2/0/0 b=current:2/0/0 c=lags:1/0/1
fleet
is "one lacks a name: exit code 1" "$rc" 1
like "the table: who is current" "$out" '^a +current +[^ ]+ \([0-9]+\) +[0-9.]+ +20[0-9-]+ [0-9:]+ UTC +[^ ].* +2 +0$'
like "the table: who lags" "$out" '^c +lags +.* +1 +1$'
like "and why" "$out" '^ +missing: b\.test$'
fleet --names
like "names: what is served" "$out" '^a\.test +current +a +20[0-9-]+ +[0-9a-f]{16,}$'
like "names: what is not" "$out" '^b\.test +missing +c +- +-$'
fleet --json --names
is "json: members" "$(python3 -c 'import json, sys
d = json.load(sys.stdin)
n = d["nodes"][2]
print(d["n_problems"], n["state"], n["pid"], [x["state"] for x in n["names"]], len(n["id"]))' <<<"$out")" \
    "1 lags ${node_pid[c]} ['current', 'missing'] 32"

# ---- a renewal that one node has made: the others lag until they look
stop c
stop quiet
check "who ends takes back what it said" await states a=current:2/0/0 b=current:2/0/0
kill -STOP "${node_pid[b]}"
sleep 1
"$CERTMESH" renew --internal --root "$store" --listen 127.0.0.1 --no-color --force a.test \
    >"$work/renew.out" 2>&1
is "renewed meanwhile" "$?" 0
stop a
start a --node-name a a.test b.test
check "who has not looked is behind" patiently states a=current:2/0/0 b=lags:2/1/0
fleet
like "behind, and in what" "$out" '^ +behind: a\.test$'

# ---- one that stands still
age b
check "who stands still is gone" await states a=current:2/0/0 b=gone:2/0/0
fleet
is "one is gone: exit code 1" "$rc" 1
kill -CONT "${node_pid[b]}"
back() {
    states a=current:2/0/0 b=lags:2/1/0 || states a=current:2/0/0 b=current:2/0/0
}
check "and is back when it goes on" patiently back

# ---- one that is killed
was=$(entry b)
stop b KILL
check "what it said is still there" test -f "$was/node"
age b
check "who was killed is gone" await states a=current:2/0/0 b=gone:2/0/0
start b --node-name b a.test b.test
both() { # by their random ids, in either order
    states a=current:2/0/0 b=current:2/0/0 b=gone:2/0/0 ||
        states a=current:2/0/0 b=gone:2/0/0 b=current:2/0/0
}
check "its successor is another" patiently both
"$CERTMESH" clean --internal --root "$store" >"$work/clean" 2>&1
check "a day later clean takes it away: not yet" test -f "$was/node"
touch -d '-25 hours' "$was/node"
"$CERTMESH" clean --internal --root "$store" >"$work/clean" 2>&1
check "a day later clean takes it away" test ! -e "$was"
check "and leaves those that live" await states a=current:2/0/0 b=current:2/0/0
fleet
is "all are current: exit code 0" "$rc" 0

# ---- what others may read
is "what nodes say is for their owner alone" \
    "$(find "$store/certmesh/nodes" -type f -perm /077 | wc -l)" 0
mkdir -p "$store/certmesh/nodes/00112233445566778899aabbccddeeff"
echo '{"node":"\u001b[2J","seen":"2999-01-01T00:00:00Z","digest":"0000000000000000"}' \
    >"$store/certmesh/nodes/00112233445566778899aabbccddeeff/node"
fleet
is "no control bytes reach the terminal" "$(grep -c $'\033' <<<"$out")" 0
stop a
stop b
tap_done
