#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# One certificate into a cache with many, while another thread chooses without pause. The limit is
# the same call on an empty cache: reading the PEM.
. "$(dirname "$0")/../common.sh"

head_row 'microseconds (limit: an empty cache)'
for n in $(pick 100 10000 '10000 100000 1000000'); do
    out=$("$BENCH_TOOLS/bench-publish" "$n" "$(pick 100 5000 20000)") || die "publish $n failed"
    read -r empty add add99 gone quiet quiet_max busy busy_max <<<"$out"
    row "$n certificates: add one" "$empty" "$add" "$(calc "$add / $empty")" 100
    row "$n certificates: add one, 99 %" "$empty" "$add99" "$(calc "$add99 / $empty")" ''
    row "$n certificates: take one out" - "$gone" - 100
    row "a choice meanwhile, 99.9 % (limit: none added)" "$quiet" "$busy" \
        "$(calc "$busy / $quiet")" ''
    row "a choice meanwhile, worst" "$quiet_max" "$busy_max" "$(calc "$busy_max / $quiet_max")" ''
done
