#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A start with many names, per storage: against one load after the other of key, chain and metadata
# of each, through the same storage. Where that would take too long it is done for some of the names
# and reckoned up, which "~" says. Of the file storage once more with a millisecond added to each
# call, as over a network. Other storages by URL: CM_BENCH_STORAGE="redis://... postgres://..."; they
# are filled first, and should be empty.
. "$(dirname "$0")/../common.sh"
. "$here/servers.sh"

aims_s=([1000]=0.1 [10000]=0.5 [100000]=5)
aims_mb=([100000]=150)
aim_first_ms=200
rounds=$(pick 1 3 3)
sizes=$(pick 50 '1000 10000' '1000 10000 100000')
most_one_by_one=$(pick 50 2000 10000)
start=$BENCH_TOOLS/bench-start

median() { # FIELD FILE
    sort -n -k "$1,$1" "$2" | awk -v f="$1" '{ v[NR] = $f } END { print v[int((NR + 1) / 2)] }'
}

line() { # WHAT ONE-BY-ONE OURS RATIO CPU CALLS FIRST RESIDENT AIM
    printf '%-24s %9s %7s %6s %7s %8s %8s %6s   %s\n' "$@"
}

rows() { # NAME URL N US
    local n=$3 i part loads ours about='' mb
    part=$((n < most_one_by_one ? n : most_one_by_one))
    [ "$part" = "$n" ] || about='~'
    : >"$work/loads" >"$work/start"
    for ((i = 0; i < rounds; i++)); do
        if [ "$4" = 0 ] || [ "$i" = 0 ]; then
            "$start" loads "$2" "$n" "$4" "$part" >>"$work/loads" || die 'loading failed'
        fi
        "$start" start "$2" "$n" "$4" >>"$work/start" || die 'start failed'
    done
    loads=$(calc "$(median 1 "$work/loads") * $n / $part" %.3f)
    ours=$(median 1 "$work/start") mb=$(calc "$(median 3 "$work/start") / 1e6" %.1f)
    line "$1, $n" "$about$loads" "$(calc "$ours" %.3f)" "$(calc "$ours / $loads" %.3f)" \
        "$(calc "$(median 5 "$work/start")" %.3f)" "$(median 4 "$work/start")" "$(median 2 "$work/start")" "$mb" \
        "${aims_s[n]:+${aims_s[n]} s, }$aim_first_ms ms${aims_mb[n]:+, ${aims_mb[n]} MB}"
}

servers_up
line 'a start, names' 'limit s' 'ours s' ratio 'CPU s' calls 'first ms' MB aims
for n in $sizes; do
    store=$work/store.$n
    "$BENCH_TOOLS/bench-load" make "$store" "$n" || die "cannot make $n certificates"
    rows file "file://$store" "$n" 0
    rows 'file + 1 ms' "file://$store" "$n" 1000
    rm -rf "$store"
    [ "$n" -gt 10000 ] || rows memory memory:start "$n" 0
    servers_place
    for server in "${servers[@]}"; do
        url=$(servers_url "$server-unix")
        # Filling is not what is measured: it need not wait for the disk.
        [ "$server" != postgres ] || url+='&options=-csynchronous_commit%3Doff'
        "$start" fill "$url" "$n" || die "cannot fill $n certificates"
        for how in unix tcp tls; do
            rows "$server-$how" "$(servers_url "$server-$how")" "$n" 0
        done
    done
    for url in ${CM_BENCH_STORAGE:-}; do
        "$start" fill "$url" "$n" || die "cannot fill $n certificates"
        rows "${url%%:*}" "$url" "$n" 0
    done
done
