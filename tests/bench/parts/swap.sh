#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Certificates replaced under handshakes: what a thousand swaps a second cost those who connect. The
# limit is the same without swaps; the CPU time is that of the serving thread alone.
. "$(dirname "$0")/../common.sh"

n=$(pick 100 10000 100000)
rounds=$(pick 1 5 9)
seconds=$(pick 1 3 10)

median() { # FIELD FILE
    sort -g -k "$1,$1" "$2" | awk -v f="$1" '{ v[NR] = $f } END { print v[int((NR + 1) / 2)] }'
}

: >"$work/quiet" >"$work/others" >"$work/same"
for ((i = 0; i < rounds; i++)); do # in turns: what else the machine does meets all
    "$BENCH_TOOLS/bench-swap" "$n" "$seconds" 0 same >>"$work/quiet" || die 'no swaps failed'
    "$BENCH_TOOLS/bench-swap" "$n" "$seconds" 1000 others >>"$work/others" || die 'others failed'
    "$BENCH_TOOLS/bench-swap" "$n" "$seconds" 1000 same >>"$work/same" || die 'same failed'
done
[ "$(median 4 "$work/same")" -gt 0 ] || die 'no handshake met a swap'
[ "$(median 4 "$work/quiet")" = 0 ] || die 'certificates were swapped that should not be'
[ "$(median 4 "$work/others")" = 0 ] || die 'others were to be swapped'

head_row "$n certificates (limit: no swaps)"
for which in others same; do
    label="1,000 swaps a second of $which"
    row "$label, handshakes/s" "$(median 1 "$work/quiet")" "$(median 1 "$work/$which")" \
        "$(calc "$(median 1 "$work/$which") / $(median 1 "$work/quiet")")" ''
    # Who is the first to use a certificate makes GnuTLS' objects of it.
    row "$label, server CPU us" "$(median 2 "$work/quiet")" "$(median 2 "$work/$which")" \
        "$(calc "$(median 2 "$work/$which") / $(median 2 "$work/quiet")" %.3f)" \
        "$([ $which = same ] || echo 1.05)"
    echo "    $(median 3 "$work/$which") swaps a second; $(median 4 "$work/$which") handshakes of a" \
        "round with a new certificate"
done
