#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Hellos at a server that gets certificates on demand: hits, names that nobody may have, names that
# are obtained. The limit is the same library without on-demand; for a miss, the same name managed
# beforehand by the same local CA.
. "$(dirname "$0")/../common.sh"

head_row 'microseconds (per second)'
out=$("$BENCH_TOOLS/bench-ondemand" "$(pick 10 1000 5000)" "$(pick 20 300 900)") || die "it failed"
read -r hit hit_on unknown unlisted remembered denied managed missed <<<"$out"
line() { # WHAT LIMIT OURS AIM
    row "$1, $(calc "1000000 / $3" %.0f) per s" "$2" "$3" "$(calc "$3 / $2")" "$4"
}
line 'a hit' "$hit" "$hit_on" 1.05
line 'on no list' "$unknown" "$unlisted" 2
line 'denied before' "$unknown" "$remembered" 2
line 'denied by a decision' "$unknown" "$denied" ''
line 'obtained' "$managed" "$missed" 1.5
