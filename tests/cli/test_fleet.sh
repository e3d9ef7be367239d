#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two servers on one storage: what one of them, or a command, changes is served by both at once.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

export CERTMESH_STORAGE=file:$work/store
ports=()
while [ ${#ports[@]} -lt 2 ]; do
    port=$(free_port)
    [[ " ${ports[*]} " == *" $port "* ]] || ports+=("$port")
done
servers=()
# shellcheck disable=SC2317
stop_all() {
    local pid
    for pid in "${servers[@]}"; do
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    servers=()
}
trap 'stop_all; cleanup' EXIT

start() { # NUMBER
    : >"$work/serve$1.err"
    "$certmesh" serve --internal --listen 127.0.0.1 --tls-port "${ports[$1]}" --no-http \
        a.test b.test >/dev/null 2>"$work/serve$1.err" </dev/null &
    servers+=($!)
    await grep -q 'all 2 names are up' "$work/serve$1.err"
}

# What a client sees, in one process: the serial of NAME at PORT changes from SERIAL within some
# time; prints it and the milliseconds.
cat >"$work/serial.py" <<'PY'
import hashlib, socket, ssl, sys, time
port, name, old, limit = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
since = float(sys.argv[5]) if len(sys.argv) > 5 else time.time()
ctx = ssl.create_default_context()
ctx.check_hostname = False
ctx.verify_mode = ssl.CERT_NONE
while True:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        with ctx.wrap_socket(raw, server_hostname=name) as s:
            now = hashlib.sha256(s.getpeercert(True)).hexdigest()[:16]
    took = time.time() - since
    if now != old or took > limit:
        print(now, int(took * 1000))
        break
    time.sleep(0.005)
PY
serial() { # NUMBER NAME
    python3 "$work/serial.py" "${ports[$1]}" "$2" none 0 | cut -d' ' -f1
}
changes() { # NUMBER NAME OLD MS SINCE: prints the new one
    local new took
    read -r new took < <(python3 "$work/serial.py" "${ports[$1]}" "$2" "$3" 10 "$5")
    at_most "server $1 serves another certificate for $2 within $4 ms" "$took" "$4"
    echo "# server $1: $took ms"
    changed=$new
}

for i in 0 1; do
    start $i
    tap_result $? "server $i comes up" "$(cat "$work/serve$i.err")"
done
first=$(serial 0 a.test)
is "both serve the same" "$(serial 1 a.test)" "$first"
other=$(serial 0 b.test)

# On an idle machine within some milliseconds; without being told, a server looks after minutes.
for _ in 1 2 3; do
    run renew --internal --force a.test
    is "certmesh renew --force" "$rc" 0
    since=$(date +%s.%N)
    changes 0 a.test "$first" 5000 "$since"
    new=$changed
    changes 1 a.test "$first" 5000 "$since"
    is "both serve the same again" "$changed" "$new"
    first=$new
done
is "the other name is left alone" "$(serial 0 b.test) $(serial 1 b.test)" "$other $other"

# ---- the end, with the feed open
from=$SECONDS
kill -TERM "${servers[@]}"
for pid in "${servers[@]}"; do
    wait "$pid"
    is "a server ends well" $? 0
done
servers=()
at_most "both end within 5 s" "$((SECONDS - from))" 5
is "nothing lies about" "$(find "$work/store/certmesh/tmp" -type f | wc -l)" 0

tap_done
