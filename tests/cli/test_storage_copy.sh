#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `certmesh storage copy` of many values: it is killed at several points and goes on from there, and its
# memory does not grow with what it copies. Arguments: servers to copy into, redis, postgres. CM_COPY_KEYS: how many values (1200).
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

keys=${CM_COPY_KEYS:-1200}
labs=()
end_labs() {
    local lab
    for lab in "${labs[@]}"; do "${lab%% *}" down "${lab#* }" >/dev/null 2>&1; done
    cleanup
}
trap end_labs EXIT

lab() { # PROGRAM KIND...
    local program=$here/../util/$1 dir rc
    shift
    dir=$(mktemp -u "${TMPDIR:-/tmp}/certmesh-copy.XXXXXX")
    LAB_AOF=everysec LAB_OWNER=$$ "$program" up "$dir" "$@" >"$work/exports" 2>"$work/lab.err"
    rc=$?
    [ $rc != 77 ] || { echo "# $* is not installed"; return 1; }
    [ $rc = 0 ] || { echo "Bail out! $program: $(tail -n 3 "$work/lab.err")"; exit 1; }
    labs+=("$program $dir")
    eval "$(cat "$work/exports")"
}

# A fleet of $keys values: certificates as real ones, with their parts in one place, the rest as large
# as such values are. Copies of one certificate would be no others to `check`; here only bytes count.
from=$work/from
cm obtain -q --internal --root "$from" first.test
# shellcheck disable=SC2046
cm obtain -q --internal --root "$from" $(seq -f 's%g.test' 40)
python3 - "$from" "$keys" <<'PY'
import os, sys
root, n = sys.argv[1], int(sys.argv[2])
have = sum(len(f) for _, _, f in os.walk(root + "/certificates"))
body = os.urandom(3000).hex().encode()
i = 0
while have + i < n or i % 4 != 0:
    d = f"{root}/ocsp" if i % 4 == 0 else f"{root}/certificates/other-ca/n{i // 4}.test"
    os.makedirs(d, 0o700, True)
    name = f"x{i}" if i % 4 == 0 else f"n{i // 4}.test" + (".crt", ".key", ".json")[i % 4 - 1]
    with open(f"{d}/{name}", "wb", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(b"%d " % i + body)
    i += 1
PY
total=$(cm storage ls -r --root "$from" | wc -l)

# The most memory that it ever had, in MiB; without sanitizers, who keep what is given back.
peak() { # LOG of GNU time, or of python's
    tail -n 1 "$1"
}
measured() { # LOG WORD...
    local log=$1
    shift
    python3 - "$log" "$certmesh" storage "$@" <<'PY'
import resource, subprocess, sys
rc = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL).returncode
with open(sys.argv[1], "w") as f:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, file=f)
sys.exit(rc)
PY
}
is_sanitized() {
    ldd "$certmesh" 2>/dev/null | grep -qE 'lib[at]san' || nm -D "$certmesh" 2>/dev/null | grep -qE '__[at]san_init'
}

# Whole certificates only: those of which some parts are there have all of them.
torn() { # URL: how many are not whole
    cm storage ls -r certificates --storage "$1" 2>/dev/null | sed -n 's|/[^/]*$||p' | sort | uniq -c |
        awk '$1 != 3' | wc -l
}

killed() { # LABEL URL: killed at growing points, then to its end
    local label=$1 to=$2 point pid n=0 last=0 rc
    for point in 0 $((total / 50)) $((total / 5)) $((total / 2)) $((total * 9 / 10)); do
        "$certmesh" storage copy --from "file:$from" --to "$to" >"$work/killed.log" 2>&1 </dev/null &
        pid=$!
        server=$pid
        while kill -0 $pid 2>/dev/null; do
            n=$(cm storage ls -r --storage "$to" 2>/dev/null | wc -l)
            [ "$n" -lt "$point" ] || break
        done
        kill -KILL $pid 2>/dev/null
        wait $pid 2>/dev/null
        rc=$?
        server=
        n=$(cm storage ls -r --storage "$to" 2>/dev/null | wc -l)
        echo "# $label: killed at $n of $total (exit $rc)"
        is "$label: killed from $point on: no certificate in parts" "$(torn "$to")" 0
        [ "$n" -ge "$last" ]
        tap_result $? "$label: killed from $point on: nothing is lost again"
        last=$n
    done
    measured "$work/peak" copy --from "file:$from" --to "$to" --json >"$work/out" 2>"$work/err"
    is "$label: the last one ends well" "$?" 0
    is "$label: what was there is passed over" \
        "$(json "(d['n_equal'] >= $last - 64, d['n_stored'] + d['n_equal'] == d['n_values'] == $total)")" "(True, True)"
    cm storage copy --from "file:$from" --to "$to" --json >"$work/out"
    is "$label: once more: all equal" "$(json "(d['n_stored'], d['n_equal'], d['equal'])")" "(0, $total, True)"
}

bounded() { # LABEL LIMIT WORD...
    local label=$1 limit=$2
    shift 2
    measured "$work/peak" "$@" >/dev/null 2>"$work/err"
    tap_result $? "$label" "$(tail -n 3 "$work/err")"
    echo "# $label: $(peak "$work/peak") MiB at most, of $(du -sm "$from" | cut -f1) MiB"
    is_sanitized || at_most "$label: in bounded memory" "$(peak "$work/peak")" "$limit"
}

killed "to files" "file:$work/to"
is "to files: byte by byte" \
    "$(cd "$work/to" && find . -path ./locks -prune -o -path ./certmesh/locks -prune -o -path ./certmesh/tmp -prune -o \
        -type f -print0 | sort -z | xargs -0 cat | sha256sum)" \
    "$(cd "$from" && find . -path ./locks -prune -o -path ./certmesh/locks -prune -o -path ./certmesh/tmp -prune -o \
        -type f -print0 | sort -z | xargs -0 cat | sha256sum)"
bounded "export" 40 export "$work/all.tar" --root "$from"
bounded "import" 40 import "$work/all.tar" --root "$work/imported"
bounded "file to file" 40 copy --from "file:$from" --to "file:$work/again"
printf 'one %s\n' "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" >"$work/keys"
chmod 600 "$work/keys"
bounded "file to sealed" 40 copy --from "file:$from" --to "sealed:?keys=$work/keys&in=file:$work/sealed"
rm -rf "$work/again"
bounded "sealed to plain" 40 copy --from "sealed:?keys=$work/keys&in=file:$work/sealed" --to "file:$work/again"
is "sealed to plain: the same" "$(cm storage export --root "$work/again" | tar -xO | sha256sum)" \
    "$(cm storage export --root "$from" | tar -xO | sha256sum)"
rm -rf "$work/sealed" "$work/imported"

redis() {
    lab redis-lab single || return
    killed "to Redis" "$REDIS_URL"
    bounded "Redis to files" 60 copy --from "$REDIS_URL" --to "file:$work/back"
    bounded "ls of Redis" 40 ls -r --storage "$REDIS_URL"
    rm -rf "$work/back"
}

postgres() {
    lab pg-lab || return
    killed "to PostgreSQL" "$PG_URL"
    bounded "PostgreSQL to files" 60 copy --from "$PG_URL" --to "file:$work/back"
    bounded "ls of PostgreSQL" 40 ls -r --storage "$PG_URL"
    rm -rf "$work/back"
}

for into; do "$into"; done

tap_done
