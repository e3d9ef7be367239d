#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Choosing a certificate from a parsed hello, against a table that only hashes and compares.
. "$(dirname "$0")/../common.sh"

aims=([1]=100 [1000]=100 [10000]=150 [100000]=150 [1000000]=600)
rounds=$(pick 1 3 9)
ms=$(pick 5 100 300)

head_row 'ns per choice (limit: hash, compare)'
for n in $(pick '1 100' '1 1000 100000' '1 1000 100000 1000000'); do
    "$BENCH_TOOLS/bench-choose" "$n" "$rounds" "$ms" >"$work/out" || die "choose $n failed"
    while read -r kind threads limit ours ratio _; do
        [ "$kind" != answers ] || continue
        # One name is the hot one.
        [ "$n" != 1 ] || [ "$kind" = hot ] || continue
        row "$n certificates, $kind, $threads thread(s)" "$limit" "$ours" "$ratio" \
            "${aims[n]:-}"
    done <"$work/out"
    sed -n 's/^answers \(.*\) allocations \(.*\) storage-calls \(.*\)/    \1 answers right, \2 allocations, \3 calls to storage/p' \
        "$work/out"
done
