#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Many processes, one storage: one order per name, and any process answers any challenge.
. "$(dirname "$0")/common.sh"

lab_up cluster LAB_NONCEREJECT=5 LAB_AUTHZREUSE=0
export STORE=cluster

names=$(seq -f 'c%g.a.test' 1 25)
before=$(orders)
for i in 1 2 3 4 5 6 7 8; do
    # Each in an order of its own, so that they meet everywhere.
    # shellcheck disable=SC2086
    (cm obtain $(shuf -e $names) >"$work/p$i.log" 2>&1; echo $? >"$work/p$i.rc") &
    pids+=($!)
done
for p in "${pids[@]}"; do wait "$p"; done
pids=()
for i in 1 2 3 4 5 6 7 8; do
    is "process $i ends well" "$(cat "$work/p$i.rc")" 0
    [ "$(cat "$work/p$i.rc")" = 0 ] || sed 's/^/# /' "$work/p$i.log" | tail -n 8
done
is "8 processes x 25 names: exactly 25 orders" "$(($(orders) - before))" 25
good=0
for n in $names; do pair_is_good "$n" >/dev/null 2>&1 && good=$((good + 1)); done
is "25 good pairs" "$good" 25
is "one account" "$(find "$work/cluster/acme" -name '*.key' | wc -l)" 1
is "no lock is left" "$(find "$work/cluster/locks" -name '*.lock' 2>/dev/null | wc -l)" 0
is "no challenge token is left" "$(find "$work/cluster/acme" -path '*challenge_tokens*' -type f | wc -l)" 0
is "no journal is left" "$(find "$work/cluster/certmesh/journal" -type f 2>/dev/null | wc -l)" 0

# One node holds both ports, another starts the challenge.
cm_exec=exec cm serve c1.a.test >"$work/serve.log" 2>&1 &
pids+=($!)
check "a node serves on both ports" wait_for 10 curl -sk -o /dev/null --resolve \
    "c1.a.test:$TLSALPN_PORT:127.0.0.1" "https://c1.a.test:$TLSALPN_PORT/"
check "http-01 of another process is answered by that node" cm obtain d1.a.test --challenge http-01
check "the pair is good" pair_is_good d1.a.test
check "tls-alpn-01 of another process is answered by that node" cm obtain d2.a.test --challenge tls-alpn-01
check "the pair is good" pair_is_good d2.a.test
tap_done
