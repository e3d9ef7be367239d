#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The ACME client in process against a CA whose answers are spoilt at random: 10,000 seeds, or the
# first 1,200 of them. A seed that fails is printed; hostile_scripts SEED 1 plays it again.
. "$(dirname "$0")/../common.sh"

flows=$(sample 10000 1200)
each=$((flows / 4)) # side by side, as much of the time is spent waiting
pids=()
for k in 0 1 2 3; do
    timeout -k 5 900 "$FAULT_TOOLS/hostile_scripts" $((k * each)) "$each" >"$work/$k" 2>&1 &
    pids+=($!)
done
for k in 0 1 2 3; do
    wait "${pids[k]}"
    report $? "seeds from $((k * each)): $(tail -n 20 "$work/$k")"
    tail -n 1 "$work/$k"
done

finish
