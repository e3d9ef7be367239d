#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Certificates from file storage into a server: all of them, and the first handshake after a start.
# The limit lists the directory and reads the files, no more.
. "$(dirname "$0")/../common.sh"

aims_s=([1000]=0.01 [10000]=0.10 [100000]=1.0)
aims_mb=([10000]=25 [100000]=130)
rounds=$(pick 1 3 5)

best() { # FIELD FILE: median of a column
    sort -n -k "$1,$1" "$2" | awk -v f="$1" '{ v[NR] = $f } END { print v[int((NR + 1) / 2)] }'
}

head_row 'from file storage (limit: list, read)'
for n in $(pick '50' '1000 10000' '1000 10000 100000'); do
    store=$work/store.$n
    "$BENCH_TOOLS/bench-load" make "$store" "$n" || die "cannot make $n certificates"
    : >"$work/floor1" >"$work/floor2" >"$work/load"
    for ((i = 0; i < rounds; i++)); do
        "$BENCH_TOOLS/bench-load" floor "$store" "$n" 1 >>"$work/floor1" || die 'floor failed'
        "$BENCH_TOOLS/bench-load" floor "$store" "$n" 2 >>"$work/floor2" || die 'floor failed'
        "$BENCH_TOOLS/bench-load" load "$store" "$n" >>"$work/load" || die 'load failed'
    done
    floor=$(best 1 "$work/floor2") ours=$(best 1 "$work/load")
    row "$n certificates, s (limit: 2 threads)" "$floor" "$ours" "$(calc "$ours / $floor")" \
        "${aims_s[n]:-}"
    floor=$(best 2 "$work/floor1") ours=$(best 2 "$work/load")
    row "$n certificates, CPU s" "$floor" "$ours" "$(calc "$ours / $floor")" "${aims_s[n]:-}"
    ours=$(best 3 "$work/load")
    row "$n certificates, resident MB" - "$(calc "$ours / 1e6" %.1f)" - "${aims_mb[n]:-}"
    first=$("$BENCH_TOOLS/bench-first" "$store" "$n" "$rounds") || die 'first handshake failed'
    row "$n names: exec to first handshake, ms" - "${first% *}" - 100
    rm -rf "$store"
done
