#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Months in minutes: certificates that live seconds, staples that are fresh for seconds, cleaning and
# metrics all the time, clients that come and go. Memory, descriptors and threads stay as they are.
. "$(dirname "$0")/../common.sh"
CM_FAULT_STORAGE=
. "$here/life.sh"

seconds=$(sample 600 30)
growth_kb=$(sample 512 2048)
validity=12
use_pebble LAB_OCSP=1 LAB_VALIDITY=$validity LAB_RETRY_AFTER=0
build_served
curl -s -d '' "$OCSP_URL/ctl?validity=20" >/dev/null
mapfile -t names < <(seq -f 's%g.test' 12)
fresh_storage
put_expired
report $? "set-up"
served_words --clean 3 --grace 1 "${names[@]}"
"$served" "${words[@]}" >"$work/events" 2>"$work/log" </dev/null &
pid=$!
end_of() {
    kill -KILL "$1" 2>/dev/null
}
at_exit end_of $pid

all_up() {
    [ "$(find "$store/certificates" -name '*.crt' | wc -l)" -ge ${#names[@]} ]
}
for ((i = 0; i < 300; i++)); do
    all_up && break
    sleep 0.1
done
all_up
report $? "not all names are up: $(tail -n 5 "$work/log")"

python3 "$life/load.py" "$TLSALPN_PORT" "$PEBBLE_ROOT" 0 "$seconds" 50 "${names[@]}" \
    >"$work/load.json" &
load=$!
# SECOND RSS_KB DESCRIPTORS THREADS
while kill -0 $load 2>/dev/null; do
    kill -USR2 $pid
    echo "$(awk '/^VmRSS/ { print $2 }' /proc/$pid/status)" \
        "$(find /proc/$pid/fd -mindepth 1 2>/dev/null | wc -l)" \
        "$(find /proc/$pid/task -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)"
    sleep 1
done >"$work/samples"
wait $load

# judge SAMPLES: the last quarter against the second one. A dozen renewals at the same moment have a
# hundred connections and two dozen threads, for that moment: of memory what is usual counts, of the
# others what there always is.
judge() {
    python3 - "$1" "$growth_kb" <<'P'
import statistics, sys
rows = [[int(x) for x in line.split()] for line in open(sys.argv[1]) if len(line.split()) == 3]
quarter = len(rows) // 4
early, late = ([how(r[i] for r in part) for i, how in enumerate((statistics.median, min, min))]
               for part in (rows[quarter:2 * quarter], rows[-quarter:]))
grown = late[0] - early[0]
print(f"{len(rows)} samples: {late[0]:.0f} KiB resident, grown by {grown:.0f}; descriptors "
      f"{early[1]:.0f} early, {late[1]:.0f} late; threads {early[2]:.0f}, {late[2]:.0f}")
sys.exit(grown > int(sys.argv[2]) or late[1] > early[1] + 8 or late[2] > early[2] + 4)
P
}
said=$(judge "$work/samples")
report $? "soak: $said"
renewals=$(grep -c '^cert_obtained.*renewal=1' "$work/events")
scraped=$(grep -c '^# end of metrics' "$work/events")
echo "soak: $seconds s, $renewals renewals, $(curl -s "$OCSP_URL/ctl" | grep -o '"hits": [0-9]*')," \
    "$scraped scrapes; $said"
python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print({k: v for k, v in d.items()
    if k not in ("serials", "failed", "renewals")})
sys.exit(d["failures"] != 0 or d["not_resumed"] != 0 or d["full"] < 100)' "$work/load.json"
report $? "clients: $(head -c 500 "$work/load.json")"
[ "$renewals" -ge $((seconds / validity * ${#names[@]} / 2)) ]
report $? "only $renewals renewals"
[ "$scraped" -ge $((seconds / 3)) ]
report $? "only $scraped scrapes"
# It begins to clean a minute after its start, and then some.
if [ "$seconds" -ge 120 ]; then
    out=$(look absent gone.test)
    report $? "not cleaned: $out"
fi
kill $pid
for ((i = 0; i < 100; i++)); do
    kill -0 $pid 2>/dev/null || break
    sleep 0.05
done
wait $pid
report $? "it ended with $?: $(tail -n 5 "$work/log")"
left=$(find "$store/locks" "$store"/acme/*/challenge_tokens "$store/certmesh/tmp" \
    "$store/certmesh/journal" "$store/certmesh/redo" -type f 2>/dev/null)
[ -z "$left" ]
report $? "left: $left"

# Detectors that cannot fail prove nothing.
awk '{ print $1 + NR * 200, $2, $3 }' "$work/samples" >"$work/leak"
! judge "$work/leak" >/dev/null
report $? "negative control: growing memory was not noticed"
awk '{ print $1, $2 + NR, $3 }' "$work/samples" >"$work/leak"
! judge "$work/leak" >/dev/null
report $? "negative control: growing descriptors were not noticed"
finish
