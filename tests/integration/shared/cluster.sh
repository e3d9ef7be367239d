#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cluster.sh KIND: many processes want the same names at the same moment: one order for each name,
# everybody gets every certificate, nothing is left. CM_FLEET_FULL=1: 16 processes, 200 names, three
# times. CM_FULL=1: 50 processes, 50 names, once.
. "$(dirname "$0")/common.sh"

processes=$(size 16 8)
count=$(size 200 50)
runs=$(size 3 1)
parallel=2
[ -z "${CM_FULL:-}" ] || processes=50 count=50 runs=1 parallel=1
fleet_up

once() { # RUN
    local run=$1 before asked i n good=0 began names p
    backend_place "cluster$run" || { echo "Bail out! no place"; exit 1; }
    # An old Pebble locks itself up when very many orders come at once, the sooner the more it knows:
    # for the full size take CM_PEBBLE=$(tests/util/get-pebble).
    [ "$run" = 1 ] || "$here/tests/util/lab" restart "$LAB_DIR"
    names=$(seq -f "c%g-$run.a.test" 1 "$count")
    before=$(orders)
    began=$(milliseconds)
    pids=()
    for ((i = 1; i <= processes; i++)); do
        # Each in an order of its own, so that they meet everywhere.
        # shellcheck disable=SC2086
        (node 0 obtain --quiet --parallel "$parallel" $(shuf -e $names) >"$work/p$i.log" 2>&1; echo $? >"$work/p$i.rc") &
        pids+=($!)
    done
    for p in "${pids[@]}"; do wait "$p"; done
    pids=()
    echo "# $kind: $processes processes, $count names: $(($(milliseconds) - began)) ms"
    for ((i = 1; i <= processes; i++)); do
        [ "$(cat "$work/p$i.rc")" = 0 ] && good=$((good + 1)) && continue
        echo "# process $i: exit $(cat "$work/p$i.rc")"
        sed 's/^/# /' "$work/p$i.log" | tail -n 8
    done
    is "run $run: all processes end well" "$good" "$processes"
    is "run $run: exactly $count orders" "$(($(orders) - before))" "$count"
    # shellcheck disable=SC2086
    check "run $run: a whole pair for each name" store_tool pairs "$PEBBLE_ROOT" $names
    is "run $run: one account" "$(store_tool list | grep -c '^acme/.*/users/.*\.key$')" 1
    # shellcheck disable=SC2086
    nothing_left $names

    # Whoever comes now finds all of them, and asks the CA nothing.
    asked=$(requests)
    good=0
    for ((i = 1; i <= processes; i++)); do
        # shellcheck disable=SC2086
        node 0 obtain --quiet $names >"$work/again.log" 2>&1 && good=$((good + 1))
    done
    is "run $run: every process loads every name" "$good" "$processes"
    is "run $run: and asks the CA nothing" "$(($(requests) - asked))" 0
    is "run $run: the certificates that are listed" \
        "$(node 0 list --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["certificates"]))')" "$count"
}

for ((run = 1; run <= runs; run++)); do once "$run"; done
tap_done
