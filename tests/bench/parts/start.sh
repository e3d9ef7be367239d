#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A start with many names, per storage: against one load after the other of key, chain and metadata
# of each. Of the file storage once more with a millisecond added to each call, as over a network.
# Other storages by URL: CM_BENCH_STORAGE="redis://... postgres://..."; they are filled first, and
# should be empty.
. "$(dirname "$0")/../common.sh"

aims_s=([1000]=0.1 [10000]=0.5 [100000]=5)
aims_mb=([100000]=150)
aim_first_ms=200
rounds=$(pick 1 3 5)
sizes=$(pick 50 '1000 10000' '1000 10000 100000')
most_one_by_one=$(pick 50 1000 10000) # with a millisecond for each: half a minute
start=$BENCH_TOOLS/bench-start

median() { # FIELD FILE
    sort -n -k "$1,$1" "$2" | awk -v f="$1" '{ v[NR] = $f } END { print v[int((NR + 1) / 2)] }'
}

rows() { # NAME URL N US
    local n=$3 i loads ours ratio=-
    : >"$work/loads" >"$work/start"
    for ((i = 0; i < rounds; i++)); do
        if [ "$4" = 0 ] || { [ "$i" = 0 ] && [ "$n" -le "$most_one_by_one" ]; }; then
            "$start" loads "$2" "$n" "$4" >>"$work/loads" || die 'loading failed'
        fi
        "$start" start "$2" "$n" "$4" >>"$work/start" || die 'start failed'
    done
    loads=$(median 1 "$work/loads") ours=$(median 1 "$work/start")
    [ -z "$loads" ] || ratio=$(calc "$ours / $loads" %.3f)
    row "$1, $n names, s" "${loads:--}" "$ours" "$ratio" "${aims_s[n]:-}"
    row "$1, $n, a name asked for at once, ms" - "$(median 2 "$work/start")" - "$aim_first_ms"
    row "$1, $n, resident MB" - "$(calc "$(median 3 "$work/start") / 1e6" %.1f)" - "${aims_mb[n]:-}"
    row "$1, $n, calls" "$((3 * n))" "$(median 4 "$work/start")" \
        "$(calc "$(median 4 "$work/start") / (3 * $n)" %.3f)" ''
}

head_row 'a start (limit: one load after the other)'
for n in $sizes; do
    store=$work/store.$n
    "$BENCH_TOOLS/bench-load" make "$store" "$n" || die "cannot make $n certificates"
    rows file "file://$store" "$n" 0
    rows 'file + 1 ms' "file://$store" "$n" 1000
    rm -rf "$store"
    [ "$n" -gt 10000 ] || rows memory memory:start "$n" 0
done
for url in ${CM_BENCH_STORAGE:-}; do
    for n in $sizes; do
        "$start" fill "$url" "$n" || die "cannot fill $n certificates"
        rows "${url%%:*}" "$url" "$n" 0
    done
done
