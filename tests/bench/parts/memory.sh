#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Resident bytes per certificate, before and after the first handshake with it. The limit is its
# DER; the key is 120 bytes more.
. "$(dirname "$0")/../common.sh"

head_row 'resident bytes per certificate'
for n in $(pick 1000 100000 '100000 1000000'); do
    out=$("$BENCH_TOOLS/bench-memory" "$n" "$(pick 20 1000 5000)") || die "memory $n failed"
    read -r idle hot der <<<"$out"
    row "$n certificates, idle (limit: DER)" "$der" "$idle" "$(calc "$idle / $der")" 1000
    row "$n certificates, after a handshake" "$der" "$hot" "$(calc "$hot / $der")" 6000
done
