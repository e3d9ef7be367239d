#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# 8 processes take locks and commit under them, on one storage, while others of them are killed and
# stopped past their leases. From the history that they write down it is proved that no promise of
# <certmesh/cm_spi.h> on locks and commits was broken: see tests/fault/history*.c.
# SEED=N does again what the nemesis did; OPS=N asks for so many grants and commits.
. "$(dirname "$0")/../common.sh"

history=$FAULT_TOOLS/history
seed=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
ops=${OPS:-$(sample 300000 1000000)}
limit_s=$(sample 1200 20)
least_ops=$(sample "$ops" 3000)
ttl_ms=300

# In memory, where there is such a place: what counts here is who comes first, not the disk.
if [ -z "$CM_FAULT_STORAGE" ] && [ -d /dev/shm ] && [ -w /dev/shm ]; then
    shm=$(mktemp -d /dev/shm/cm-fault.XXXXXX)
    at_exit rm -rf "$shm"
fi

place() { # a fresh storage, and a fresh folder for its history in $log
    fresh_storage
    [ -z "${shm:-}" ] || storage=file://$shm/$stores
    log=$work/history.$stores
    mkdir "$log"
}

figure() { # NAME: of the last check
    sed -n "s/.*\b$1=\([0-9]*\).*/\1/p" "$work/checked"
}

at_least() { # NAME N: a figure, or the run did not try what it is for
    [ "$(figure "$1")" -ge "$2" ]
    report $? "history: only $(figure "$1") $1 in the whole run (seed $seed): $(cat "$work/checked")"
}

# ---------------------------------------------------------------- the run

place
echo "seed $seed: $ops grants and commits, or $limit_s s"
"$history" run "$storage" "$log" "$seed" "$ops" 8 $ttl_ms "$limit_s" >"$work/ran" 2>&1
report $? "history: the run: $(tail -n 20 "$work/ran")"
tail -n 1 "$work/ran"
! grep -v '^seed ' "$work/ran" >"$work/said"
report $? "history: operations failed (seed $seed): $(sort "$work/said" | uniq -c | head -n 20)"
"$history" check "$log" >"$work/checked" 2>"$work/reasons"
rc=$?
report $rc "history: promises broken (seed $seed): $(cat "$work/reasons")"
cat "$work/checked"
if [ $rc != 0 ]; then
    kept=${TMPDIR:-/tmp}/certmesh-history-$seed
    rm -rf "$kept"
    cp -r "$log" "$kept"
    echo "the history is kept in $kept"
fi
done_ops=$(sed -n 's/^seed .*: \([0-9]*\) grants.*/\1/p' "$work/ran")
[ "${done_ops:-0}" -ge "$least_ops" ]
report $? "history: only ${done_ops:-0} of $least_ops operations in $limit_s s"
at_least killed_holders "$(sample 1000 20)"
at_least refused "$(sample 40 1)"
at_least unlocks_refused "$(sample 40 1)"
at_least cut_done "$(sample 20 1)"
at_least cut_undone "$(sample 20 1)"
at_least reads "$(sample 100000 1000)"

# ------------------------------------- negative controls: workers that cheat

sabotage() { # HOW WORDS: the checker must say WORDS of workers that cheat in this way
    place
    "$history" run "$storage" "$log" "$seed" 6000 8 $ttl_ms 30 "$1" >"$work/ran" 2>&1
    "$history" check "$log" >"$work/checked" 2>"$work/reasons"
    [ $? = 1 ] && grep -Eq "$2" "$work/reasons"
    report $? "history: '$1' was not noticed: $(cat "$work/checked" "$work/reasons" "$work/ran")"
}

sabotage ignore 'without a grant|lost update'
sabotage unfenced 'stale write|lost update'
sabotage torn 'torn commit'

# ------------------------------------ negative controls: doctored histories

# Three grants: the second owner is killed in a commit that took effect, the third goes on.
good() {
    cat <<'H'
1000000 1 lock? 0 0 0 0 0
2000000 1 lock+ 0 10 0 0 300000000
3000000 1 read? 0 10 0 0 0
4000000 1 read+ 0 10 0 0 0
5000000 1 commit? 0 10 101 0 0
6000000 1 commit+ 0 10 101 0 0
7000000 1 unlock? 0 10 0 0 0
8000000 1 unlock+ 0 10 0 0 0
10000000 2 lock? 0 0 0 0 0
11000000 2 lock+ 0 11 0 0 300000000
12000000 2 read? 0 11 0 0 0
13000000 2 read+ 0 11 101 0 0
14000000 2 commit? 0 11 201 101 0
15000000 2 commit+ 0 11 201 101 0
16000000 2 commit? 0 11 202 201 0
20000000 0 kill? 0 0 0 0 2
21000000 0 kill+ 0 0 0 0 2
30000000 3 lock? 0 0 0 0 0
31000000 3 lock+ 0 12 0 0 300000000
32000000 3 read? 0 12 0 0 0
33000000 3 read+ 0 12 202 0 0
34000000 3 commit? 0 12 301 202 0
35000000 3 commit+ 0 12 301 202 0
36000000 3 unlock? 0 12 0 0 0
37000000 3 unlock+ 0 12 0 0 0
40000000 4 read? 0 0 0 0 0
41000000 4 read+ 0 0 301 0 0
90000000 0 final 0 0 301 0 0
H
}

judge() { # WORDS: of the history on the standard input; no words: it is good
    rm -rf "$work/doctored"
    mkdir "$work/doctored"
    cat >"$work/doctored/all"
    "$history" check "$work/doctored" >"$work/checked" 2>"$work/reasons"
    if [ -z "$1" ]; then
        [ $? = 0 ]
    else
        [ $? = 1 ] && grep -q "$1" "$work/reasons"
    fi
    report $? "history: a doctored history, expected '$1': $(cat "$work/checked" "$work/reasons")"
}

doctor() { # WORDS SED-SCRIPT
    judge "$1" < <(good | sed "$2")
}

doctor '' ''
doctor 'two holders' '/1 unlock/d'
doctor 'given out twice' 's/ 12 0 0 300000000/ 11 0 0 300000000/'
doctor 'before a lower one was asked for' 's/ 3 \([a-z]*[?+]\) 0 12 / 3 \1 0 9 /'
doctor 'lost update: value 201' 's/ 202 201 / 202 101 /'
doctor 'torn commit: the holder of fence 11' 's/read+ 0 11 101 0 0/read+ 0 11 101 0 1/'
doctor 'torn commit: at the end' 's/final 0 0 301 0 0/final 0 0 301 0 1/'
doctor 'was refused and is there' 's/commit+ 0 10/commit- 0 10/'
doctor 'foreign unlock' 's/^[78]000000 1/12&/'
doctor 'without a grant' 's/0 11 201 101/0 10 201 101/'
doctor 'stale write' 's/ 0 12 301 / 0 9 301 /'
doctor 'stale write: fence 10 began to write after fence 11' 's/^[5-8]000000 1/12&/'
doctor 'long before its lease had ended' 's/commit+ 0 11 201/commit- 0 11 201/
    s/lock+ 0 11 0 0 300000000/lock+ 0 11 0 0 9000000000/'
doctor 'stale read of value 201' 's/read+ 0 0 301/read+ 0 0 201/'
doctor 'was read and never was' 's/read+ 0 0 301/read+ 0 0 999/'
doctor 'before it was written' 's/^40000000/33500000/; s/^41000000/33600000/'
doctor 'came from nowhere' 's/final 0 0 301/final 0 0 777/'
doctor 'has no end' '/final/d'
# The third worker comes later, and meanwhile a fourth finds the lock of the dead one busy.
doctor 'outlived its owner' 's/^3\([0-9]*\) 3 /903\1 3 /; s/^4\([01]000000 4\)/904\1/
    s/^90000000 0/99000000000 0/; $a2500000000 5 lock? 0 0 0 0 0\
2501000000 5 lock! 0 0 0 0 0'

finish
