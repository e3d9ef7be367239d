#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Who holds a lock is stopped (a laptop sleeps, a virtual machine is moved), for longer than the lease
# lasts, and goes on as if nothing had happened. Meanwhile another has taken the lock and stored
# something: that stands, its lock is not taken away, and nothing of the first one is accepted.
#
# First through the storage interface with short leases, then with the command itself, stopped at
# points all over a renewal. There a lease is ten seconds in files and fifteen in a server; so many
# of them wait side by side.
. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/../storage.sh"

fresh_storage
out=$("$FAULT_TOOLS/pause_race" "$storage" "$(sample 100 24)" 2>&1)
report $? "storage: $out"
echo "storage: stopped holders: $out"

# Detectors that cannot fail prove nothing.
fresh_storage
! out=$("$FAULT_TOOLS/pause_race" "$storage" 1 write 2>&1)
report $? "negative control: a stale write was not noticed"
grep -q 'stale write accepted' <<<"$out"
report $? "negative control: $out"
if [ -n "$store" ]; then
    ! out=$("$FAULT_TOOLS/pause_race" "$storage" 1 unlock 2>&1)
    report $? "negative control: a foreign unlock was not noticed"
    grep -q 'foreign unlock' <<<"$out"
    report $? "negative control: $out"
fi

# ---- the command

patience_s=60 # a lease of ten seconds, on a busy machine; who is in the guard keeps it for so long

# Many look at the same time, so looking must cost little: no program is started for it.
mkfifo "$work/silence"
exec 8<>"$work/silence"

nap() { # SECONDS
    read -rt "$1" -u 8
    return 0
}

is_stopped() { # PID
    local stat=
    read -r stat 2>/dev/null <"/proc/$1/stat"
    [[ ${stat##*) } == [tT]* ]]
}

await() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        nap 0.1
    done
}

has_line() { # FILE LINE...: one of them
    local file=$1 line want
    shift
    [ -s "$file" ] || return 1
    while read -r line; do
        for want; do [ "$line" != "$want" ] || return 0; done
    done <"$file"
    return 1
}

has_words() { # FILE PATTERN: of the shell
    local line
    [ -s "$1" ] || return 1
    while read -r line; do
        # shellcheck disable=SC2053
        [[ $line != $2 ]] || return 0
    done <"$1"
    return 1
}

# The tracer counts the calls of each thread by itself, so others may be stopped after the first one.
goes_on() { # PID TRACER
    kill -CONT "$1"
    while kill -0 "$2" 2>/dev/null; do
        ! is_stopped "$1" || kill -CONT "$1" 2>/dev/null
        nap 0.1
    done &
}

# One run, in a process of its own: what it says is a word and a reason.
run() { # N CALL INDEX
    local dir=$work/run.$1 before now pid tracer verdict had_begun
    mkdir "$dir"
    stores=$((1000 + $1))
    fresh_storage
    work=$dir
    cm obtain $name || { echo "broken: set-up: $(said)"; return; }
    before=$(pair) || { echo "broken: set-up: $before"; return; }

    command_for renew $name --force
    strace -f -qq -o "$dir/strace.log" -e trace="$2" -e inject="$2:signal=STOP:when=$3" \
        "$CERTMESH" "${words[@]/--quiet/--verbose}" >"$dir/holder" 2>&1 &
    tracer=$!
    await 30 has_words "$dir/strace.log" '*SIGSTOP*' || { echo "missed: it was not stopped"; return; }
    pid=$(pgrep -P $tracer) || { echo "missed: it is gone"; return; }
    await 30 is_stopped "$pid" || { echo "broken: it did not stop"; return; }
    had_begun=$(grep -c 'ordering$' "$dir/holder")

    mkfifo "$dir/go"
    "$FAULT_TOOLS/fault_lease" "$storage" issue_cert_$name "$patience_now" pause/successor \
        <"$dir/go" >"$dir/successor" 2>&1 &
    exec 9>"$dir/go"
    await $((patience_s * 2)) test -s "$dir/successor"
    if has_line "$dir/successor" held; then
        # He goes on. What he does next he does to the other's lock.
        now=$(pair)
        goes_on "$pid" $tracer
        verdict=robbed
        if [ "$had_begun" = 1 ]; then
            await "$patience_s" learned "$dir/holder" "$tracer" ||
                echo "FAILED: he did not learn that his lock is lost: $(cat "$dir/holder")"
        elif ! await 3 learned "$dir/holder" "$tracer"; then
            verdict=early # he had no lock yet, and now waits for it
        fi
        sleep 0.3
        [ "$(pair)" = "$now" ] || echo "FAILED: a stale write: $(pair) instead of $now"
        echo go >&9
        exec 9>&-
        await 30 has_line "$dir/successor" ok lost changed
        has_line "$dir/successor" ok || echo "FAILED: the successor: $(tr '\n' ' ' <"$dir/successor")"
    else
        # Where nobody may interfere, he is waited for.
        has_line "$dir/successor" busy || echo "FAILED: the successor: $(cat "$dir/successor")"
        exec 9>&-
        goes_on "$pid" $tracer
        verdict=kept
    fi
    wait $tracer || echo "FAILED: the stopped one ended with $?: $(tr '\n' ' ' <"$dir/holder")"
    now=$(pair) || echo "FAILED: $now"
    [ "$now" != "$before" ] || echo "FAILED: nothing was renewed"
    now=$(clean) || echo "FAILED: $now"
    echo "$verdict: at $2 $3"
}

# He has said that the lock was lost, or has ended.
learned() { # OUTPUT PID
    has_words "$1" '*@(lock_lost|was lost|not held any more)*' || ! kill -0 "$2" 2>/dev/null
}

# Where to stop: all over the job, and more where it changes something.
fresh_storage
cm obtain $name
report $? "set-up: $(said)"
command_for renew $name --force
changing=(pwrite64 fsync write renameat linkat unlinkat fchmod openat2 fcntl)
[ -n "$store" ] || changing=(sendto recvfrom sendmsg recvmsg poll write)
measure "$work/calls.log" "$CERTMESH" "${changing[@]}"
report $? "set-up: $(said)"
# In each round so many points, in the next round those behind them: all over the job in any case.
at_once=20
rounds=$(($(sample 200 ${PAUSE_SAMPLE:-10}) / at_once))
points "$work/calls.log" "${changing[@]}" | while read -r call from to; do
    seq -f "$call %.0f" "$from" "$to"
done >"$work/points"
if [ $rounds -le 1 ]; then
    take "$(sample 20 ${PAUSE_SAMPLE:-10})" <"$work/points"
else
    awk -v rounds=$rounds -v n=$at_once '
        { line[NR] = $0 }
        END { for (r = 0; r < rounds; r++)
                  for (i = 0; i < n; i++)
                      print line[1 + int((i * rounds + r) * NR / (n * rounds))] }' "$work/points"
fi >"$work/plan"

n=0 pids=()
patience_now=16
# A server knows no guard: nobody holds up the others for longer than his lease of 15 s.
[ -n "$store" ] || patience_now=25
while read -r call index; do
    n=$((n + 1))
    [ $n -le $at_once ] || wait -n
    run $n "$call" "$index" >"$work/verdict.$n" </dev/null &
    pids+=($!)
done <"$work/plan"
wait "${pids[@]}"
robbed=0 kept=0 early=0 missed=0
for ((i = 1; i <= n; i++)); do
    words=$(tr '\n' ' ' <"$work/verdict.$i")
    case $(tail -n 1 "$work/verdict.$i") in
    robbed:*) robbed=$((robbed + 1)) ;;
    early:*) early=$((early + 1)) ;;
    kept:*) kept=$((kept + 1)) ;;
    missed:*) missed=$((missed + 1)) ;;
    *) report 1 "run $i: $words" ;;
    esac
    ! grep -q '^FAILED' "$work/verdict.$i"
    report $? "run $i, $(sed -n "${i}p" "$work/plan"): $words"
done
[ $robbed -ge $((n / 5)) ] && [ $((missed * 5)) -le $n ] &&
    if [ -n "$store" ]; then [ $kept -ge 1 ]; else [ $kept = 0 ]; fi
report $? "command: of $n runs $robbed lost their lock, $kept were waited for, $missed were not stopped"
echo "command: $n runs at $(sort -u "$work/plan" | wc -l) points: $robbed stopped holders lost their lock, $kept were waited for in the guard," \
    "$early had none yet, $missed were missed"

finish
