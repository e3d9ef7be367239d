#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What it costs to have many certificates and nothing to do: none is due for weeks. A process that
# only sleeps is the limit: nothing at all. That it looks once a second instead of once in ten minutes
# must not cost more where there are more certificates.
. "$(dirname "$0")/../common.sh"

seconds=$(pick 3 20 60)
head_row 'managed and idle, per minute'
for n in $(pick 50 '1000 10000' '1000 10000 100000'); do
    store=$work/store.$n
    "$BENCH_TOOLS/bench-load" make "$store" "$n" || die "cannot make $n certificates"
    for interval in 0 1; do
        "$BENCH_TOOLS/bench-idle" "$store" "$n" "$seconds" $interval >"$work/out" || die "idle $n failed"
        read -r cpu wakes threads quiet <"$work/out"
        label="$n certificates$([ $interval = 0 ] || echo ', looks each second')"
        row "$label, CPU ms" 0 "$cpu" - "$([ $interval = 0 ] && echo 10 || echo 60)"
        row "$label, wake-ups" 0 "$wakes" - "$([ $interval = 0 ] && echo 6 || echo 66)"
        echo "    $threads threads; quiet $quiet s after loading"
    done
    rm -rf "$store"
done
