# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154
#
# For the parts that harm processes on a storage that is a server: fleet_server KIND starts one of its
# own, and every fresh_storage is a place in it. Source it after common.sh.
. "$root/tests/integration/shared/backends.sh"

free_port() {
    python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

fleet_server() { # KIND
    chmod 711 "$work"
    backend_up "$1" "$work/server" "$(free_port)" ||
        { echo "fault: $1 does not start: $(tail -n 3 "$work"/server/*log)"; exit 1; }
    at_exit backend_down
    case $1 in
    redis*)
        cat >"$work/place" <<X
#!/bin/sh
echo "redis://127.0.0.1:$backend_port/0?prefix=\$1"
X
        ;;
    postgres)
        cat >"$work/place" <<X
#!/bin/sh
psql -XAtq -h 127.0.0.1 -p $backend_port -U postgres -d postgres -c "create schema \$1" &&
    echo "postgres://postgres@127.0.0.1:$backend_port/postgres?options=-csearch_path%3D\$1"
X
        ;;
    esac
    chmod +x "$work/place"
    export CM_FAULT_PLACE=$work/place
}

# Another part on this server; its count becomes ours.
run_part() { # PART LOG
    local count
    bash "$here/parts/$1.sh" >"$2" 2>&1
    count=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$2" | tail -n 1)
    : "${count:=0 passed, 1 failed}"
    echo "$count" >"$2.count"
}

take_count() { # LOG
    local count
    grep -v ' passed, ' "$1"
    count=$(cat "$1.count")
    passed=$((passed + ${count%% *}))
    count=${count#*, }
    failed=$((failed + ${count%% *}))
}

figure() { # NAME: of the last check of a history
    sed -n "s/.*\b$1=\([0-9]*\).*/\1/p" "$work/checked"
}

# ---- who dies with a lock in his hand keeps the others waiting for his lease, and no longer

lease_s=15

takeover() { # N: prints milliseconds
    local holder began place=$work/takeover.$1
    mkdir "$place"
    mkfifo "$place/never"
    "$FAULT_TOOLS/fault_lease" "$storage" "takeover_$1" 10 "takeover/$1/first" <>"$place/never" \
        >"$place/holder" 2>&1 &
    holder=$!
    for _ in $(seq 200); do
        ! grep -qx held "$place/holder" || break
        sleep 0.05
    done
    sleep 0.5
    kill -0 $holder || { echo "0"; return; }
    began=$(date +%s%3N)
    kill -KILL $holder
    wait $holder 2>/dev/null
    "$FAULT_TOOLS/fault_lease" "$storage" "takeover_$1" $((lease_s * 3)) "takeover/$1/second" \
        </dev/null | head -n 1 >"$place/heir"
    grep -qx held "$place/heir" || { echo "999999"; return; }
    echo $(($(date +%s%3N) - began))
}

takeovers() { # COUNT: the slowest and the quickest
    local i
    fresh_storage
    for ((i = 1; i <= $1; i++)); do
        takeover $i &
    done | sort -n >"$work/took"
    [ "$(wc -l <"$work/took")" = "$1" ]
}

# ---- histories, with and without a server that is killed and comes back

# What is waited for most is the lease of a dead one; in the full size it is a shorter one.
ttl_ms=$(sample 100 300)

# history_run LABEL SECONDS OPS [restarts]
history_run() {
    local label=$1 limit=$2 ops=$3 restarts=${4:-} log runner rc count=0
    log=$work/history.$label
    mkdir "$log"
    fresh_storage
    seed=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
    "$FAULT_TOOLS/history" run "$storage" "$log" "$seed" "$ops" 8 "$ttl_ms" "$limit" \
        >"$work/ran" 2>&1 &
    runner=$!
    if [ -n "$restarts" ]; then
        # The last seconds are for the end: it wants every lock once more.
        local until=$((SECONDS + limit - 4))
        while [ $SECONDS -lt $until ] && kill -0 $runner 2>/dev/null; do
            sleep "$(sample 3 1.5)"
            # What is about to be over is not to lose its server in the last moment.
            kill -0 $runner 2>/dev/null || break
            backend_kill
            sleep 0.3
            backend_start || report 1 "history, $label: the server does not come back"
            count=$((count + 1))
        done
        [ $count -ge "$(sample 10 2)" ]
        report $? "history, $label: the server was killed only $count times"
    fi
    wait $runner
    rc=$?
    report $rc "history, $label: the run (seed $seed): $(tail -n 5 "$work/ran")"
    if [ -z "$restarts" ]; then
        ! grep -v '^seed ' "$work/ran" >"$work/said"
        report $? "history, $label: operations failed: $(sort "$work/said" | uniq -c | head -n 5)"
    fi
    "$FAULT_TOOLS/history" check "$log" >"$work/checked" 2>"$work/reasons"
    report $? "history, $label: promises broken (seed $seed): $(head -n 20 "$work/reasons")"
    echo "history, $label: $(tail -n 1 "$work/ran"); ${restarts:+$count restarts; }$(cat "$work/checked")"
    # As much as was asked for; of a sample, what its seconds give.
    [ "$(sed -n 's/^seed .*: \([0-9]*\) grants.*/\1/p' "$work/ran")" -ge "$(sample "$ops" 500)" ]
    report $? "history, $label: too few operations: $(tail -n 1 "$work/ran")"
    [ "$(figure killed_holders)" -ge "$(sample 100 5)" ] && [ "$(figure reads)" -ge "$(sample 5000 300)" ]
    report $? "history, $label: too little happened: $(cat "$work/checked")"
}

# ---- all of it

fleet_faults() { # KIND
    local out rounds
    fleet_server "$1"
    # The long waits side by side: they sleep most of the time.
    takeovers "$(sample 10 1)" &
    local waiting=$!
    PAUSE_SAMPLE=20 run_part pause "$work/pause.log" &
    local pausing=$!
    fresh_storage
    rounds=$(sample 1000 20)
    out=$(timeout -k 5 1200 "$FAULT_TOOLS/stale_race" "$storage" "$rounds")
    report $? "stale lock: $out"
    echo "stale: 8 processes on the lock of a dead one: $out"
    # Who comes after the lease has ended races for a lock that is merely free.
    [ "$(sed 's/.*all met in //' <<<"$out")" -ge $((rounds / 4)) ]
    report $? "stale lock: hardly ever were all eight there when the lease ended: $out"
    # A detector that cannot fail proves nothing.
    fresh_storage
    ! out=$("$FAULT_TOOLS/stale_race" "$storage" 1 apart) && grep -q ' 1 without' <<<"$out"
    report $? "negative control: eight winners were not noticed: $out"
    wait $waiting
    report $? "takeover: not every process said how long it had to wait"
    wait $pausing
    take_count "$work/pause.log"
    [ "$(tail -n 1 "$work/took")" -le $(((lease_s + 2) * 1000)) ] && [ "$(head -n 1 "$work/took")" -ge 1000 ]
    report $? "takeover: $(tr '\n' ' ' <"$work/took") ms after the kill, the lease is $lease_s s"
    echo "takeover: $(wc -l <"$work/took") times, $(tail -n 1 "$work/took") ms after a kill at the most;" \
        "the lease is $lease_s s"
    history_run quiet "$(sample 900 10)" "$(sample 100000 20000)"
    history_run restarts "$(sample 900 12)" "$(sample 100000 1000000)" restarts
}
