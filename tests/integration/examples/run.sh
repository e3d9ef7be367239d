#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An example program, from its start to its end, with real clients: run.sh PROGRAM
here=$(cd "$(dirname "$0")/../.." && pwd)
. "$here/util/tap.sh"

program=$1
name=$(basename "$program")
work=$(mktemp -d)
pid=
cleanup() {
    [ -z "$pid" ] || { kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; }
    rm -rf "$work"
}
trap cleanup EXIT

start() {
    for _ in 1 2 3 4 5; do # the port may be taken
        port=$((20000 + RANDOM % 20000))
        "$program" --root "$work/root" --ca "$work/ca.pem" --port "$port" localhost www.example.internal \
            >"$work/out" 2>"$work/err" &
        pid=$!
        for _ in $(seq 100); do
            grep -q "^listening on port $port" "$work/out" && return 0
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    echo "Bail out! $name does not listen: $(cat "$work/err")"
    exit 1
}

ask() { # name
    curl -sS --max-time 15 --cacert "$work/ca.pem" --resolve "$1:$port:127.0.0.1" "https://$1:$port/" 2>&1
}

start
is "$name: serves" "$(ask localhost)" hello
is "$name: serves the second name" "$(ask www.example.internal)" hello
is "$name: over IPv6 or IPv4, whichever localhost is" \
    "$(curl -sS --max-time 15 --cacert "$work/ca.pem" "https://localhost:$port/" 2>&1)" hello
for v in -tls1_2 -tls1_3; do
    is "$name $v: unknown name is told so" "$(timeout 10 openssl s_client -connect "127.0.0.1:$port" \
        "$v" -servername other.example </dev/null 2>&1 |
        sed -n 's/.*SSL alert number \([0-9]*\).*/\1/p')" 112
done
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    ask localhost >"$work/answer.$i" &
    asked[i]=$!
done
wait "${asked[@]}"
is "$name: twenty at once" "$(cat "$work"/answer.* | sort | uniq -c | tr -s ' ')" " 20 hello"

kill -TERM "$pid"
began=$SECONDS
wait "$pid"
is "$name: ends when asked to" $? 0
pid=
at_most "$name: and soon" $((SECONDS - began)) 5

# A second start finds everything in storage.
start
is "$name: serves again" "$(ask localhost)" hello
is "$name: quiet" "$(cat "$work/err")" ""
tap_done
