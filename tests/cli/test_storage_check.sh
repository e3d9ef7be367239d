#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `certmesh storage check` on each kind of storage: what is broken by hand is found, --repair puts it
# right, and nothing else is touched. Arguments: servers to do it on, redis, cluster, postgres.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

labs=()
end_labs() {
    local lab
    for lab in "${labs[@]}"; do "${lab%% *}" down "${lab#* }" >/dev/null 2>&1; done
    cleanup
}
trap end_labs EXIT

# lab PROGRAM KIND...: its exports; false if it cannot be had
lab() {
    local program=$here/../util/$1 dir rc
    shift
    dir=$(mktemp -u "${TMPDIR:-/tmp}/certmesh-check.XXXXXX")
    LAB_AOF=everysec LAB_OWNER=$$ "$program" up "$dir" "$@" >"$work/exports" 2>"$work/lab.err"
    rc=$?
    if [ $rc = 0 ]; then
        labs+=("$program $dir")
        eval "$(cat "$work/exports")"
        return 0
    fi
    [ $rc = 77 ] || { echo "Bail out! $program: $(tail -n 3 "$work/lab.err")"; exit 1; }
    echo "# $* is not installed"
    return 1
}

found() { # LABEL PATTERN: a finding of the last check
    like "$1" "$out" "$2"
}
# What the command itself finds, whatever keeps the bytes. Of the storage $CERTMESH_STORAGE.
pairs_and_orphans() { # LABEL
    local dir=certificates/certmesh-local
    for name in good.test swapped.test half.test; do cm obtain -q --internal $name; done
    fails "$1: nothing to find" 0 '^[0-9]+ values, 0 findings' cm storage check
    cm storage get $dir/good.test/good.test.key >"$work/other.key"
    cm storage put $dir/swapped.test/swapped.test.key "$work/other.key"
    cm storage rm $dir/half.test/half.test.crt
    cm storage rm $dir/good.test/good.test.json
    printf '{"status":"valid"}' >"$work/account"
    cm storage put acme/ca.test-dir/users/a@a.test/a.json "$work/account"
    run storage check
    is "$1: somebody has to look" "$rc" 1
    found "$1: a key of another certificate" '^damaged +certificates/certmesh-local/swapped.test: '
    found "$1: half a certificate" '^damaged +certificates/certmesh-local/half.test: '
    found "$1: metadata alone" '^orphan +.*half.test/half.test.json: this metadata is without'
    found "$1: a certificate without metadata" '^orphan +.*good.test/good.test.crt: its metadata'
    found "$1: an account without its key" '^orphan +acme/ca.test-dir/users/a@a.test/a.json: the key'
    run storage check --repair --json
    is "$1: --repair: what is damaged is put aside" \
        "$(json 'sorted(f["key"].split("/")[-1] for f in d["findings"] if f["kind"] == "damaged" and f["repaired"])')" \
        "['half.test', 'swapped.test']"
    check "$1: --repair: what is good stays" cm show good.test
    cm storage rm -r acme
    cm renew -q --force --internal good.test
    fails "$1: nothing is left to find" 0 ' 0 findings' cm storage check
}

# -------------------------------------------------------------------- redis

# Each name with its kind and what is in it, less what comes and goes.
snapshot() {
    local n
    for n in "${nodes[@]}"; do
        r "$n" eval 'local o = {}
            for _, k in ipairs(redis.call("KEYS", "*")) do
                local t, v = redis.call("TYPE", k)["ok"], "?"
                if t == "string" then v = redis.call("GET", k) end
                if t == "zset" then v = redis.call("ZRANGE", k, 0, -1) table.sort(v) v = table.concat(v, " ") end
                o[#o + 1] = k .. " " .. t .. " " .. redis.sha1hex(v) .. (redis.call("PTTL", k) < 0 and "" or " ends")
            end
            return o' 0
    done | grep -v -e '/certmesh/locks/' -e '/locks/' -e last_clean.json | sort
}

broken_redis() { # LABEL PREFIX
    local label=$1 p=$2 site=$2/certificates/certmesh-local before after now
    pairs_and_orphans "$label"
    printf 1 >"$work/one"
    for n in a/one a/two b/c/three b/c/four d/five; do cm storage put $n "$work/one"; done
    before=$(snapshot)
    fails "$label: what is whole is whole" 0 ' 0 findings' cm storage check
    is "$label: looking changes nothing" "$(snapshot)" "$before"

    w zadd "$p/a" 5 gone >/dev/null
    w zadd "$site" 5 gone.test/ >/dev/null
    w zadd "$p/a" 5 'no/name' >/dev/null
    w zrem "$site/good.test" good.test.key >/dev/null
    w zrem "$p/b" c/ >/dev/null
    w zrem "$p" d/ >/dev/null
    w pexpire "$p/a/two" 3600000 >/dev/null
    w set "$p/locks/issue_cert_x" nobody >/dev/null
    w set "$p/certmesh/locks/n/x" 7 >/dev/null
    now=$(snapshot)
    run storage check
    is "$label: drift: exit code 1" "$rc" 1
    found "$label: a name without value" '^storage +a/gone: the index names this value, but there is none; --repair'
    found "$label: a name without directory" 'certmesh-local/gone.test: the index names this directory'
    found "$label: a member that can be no name" '^storage +a/\?: a member of this index can be no name no/name'
    found "$label: a value in no index" 'good.test/good.test.key: this value is not in the index'
    found "$label: a directory in no index" '^storage +b/c: this directory is not in the index'
    found "$label: one at the top" '^storage +d: this directory is not in the index'
    found "$label: a value that will end" '^storage +a/two: this value has a time to live'
    found "$label: a lock that will not" '^storage +locks/issue_cert_x: this lock has no time to live'
    found "$label: a fence that will not" '^storage +certmesh/locks/n/x: this fence'
    found "$label: one whose index is gone" '^storage +b: the index names this directory'
    is "$label: ten findings" "$(grep -c '^storage ' <<<"$out")" 10
    is "$label: looking changes nothing" "$(snapshot)" "$now"
    fails "$label: and lists do not show it" 7 'no value' cm storage ls -r b
    run storage check --repair --json
    is "$label: --repair repairs all of it" "$(json '(d["n_found"], d["n_repaired"])')" '(9, 9)'
    is "$label: everything is as it was" "$(snapshot)" "$before"
    is "$label: the lock ends" "$([ "$(w pttl "$p/locks/issue_cert_x")" -gt 0 ] && echo yes)" yes
    is "$label: lists show it" "$(cm storage ls -r b | xargs)" "b/c/four b/c/three"
    fails "$label: nothing is left to find" 0 ' 0 findings' cm storage check

    # what nobody can put right, or nobody may
    w zadd "$p/a" "$(date +%s)" young >/dev/null
    w set "$p/a/text" 'no JSON' >/dev/null
    w rpush "$p/queue" x >/dev/null
    w del "$p/locks/issue_cert_x" >/dev/null
    w rpush "$p/locks/issue_cert_x" x >/dev/null
    now=$(snapshot)
    run storage check --repair
    is "$label: more than that: exit code 1" "$rc" 1
    found "$label: what a peer may be about to store" '^storage +a/young: .*within the last minute'
    found "$label: what is no value" '^storage +a/text: .*no JSON|not JSON'
    found "$label: what is no kind of ours" '^storage +queue: a Redis list'
    found "$label: a lock of another kind" '^storage +locks/issue_cert_x: a Redis list where certmesh keeps locks'
    is "$label: none of it is touched" "$(snapshot)" "$now"
    w zrem "$p/a" young >/dev/null
    w del "$p/a/text" >/dev/null
    w del "$p/queue" >/dev/null
    w del "$p/locks/issue_cert_x" >/dev/null
    is "$label: all is as it was" "$(snapshot)" "$before"

    # While others store and remove, nothing of theirs is lost to a repair.
    writer() { # NUMBER
        local i
        for ((i = 0; i < 25; i++)); do
            cm storage put "w$1/$((i % 5))/v" "$work/one"
            [ $((i % 3)) != 0 ] || cm storage rm "w$1/$((i % 5))/v"
        done
        for ((i = 0; i < 5; i++)); do cm storage put "w$1/$i/v" "$work/one"; done
    }
    local pids=() n
    for n in 1 2 3; do
        writer $n >/dev/null 2>&1 &
        pids+=($!)
    done
    while kill -0 "${pids[@]}" 2>/dev/null; do
        w zadd "$p/w1/3" 5 stale >/dev/null
        cm storage check --repair >/dev/null 2>&1
    done
    wait "${pids[@]}"
    cm storage check --repair >/dev/null
    is "$label: among writers: all of theirs is there" \
        "$(cm storage ls -r | grep -c '^w[123]/[0-4]/v$')" 15
    fails "$label: among writers: and whole" 0 ' 0 findings' cm storage check
}

# A copy into a storage in use: where somebody holds the lock of what would be replaced it waits, and
# leaves it. hold NAME and release NAME are the server's.
held_sites() { # LABEL
    local from=file:$work/held.$RANDOM lock serial
    cm obtain -q --internal --storage "$from" --san n1.test n2.test
    cm obtain -q --internal --storage "$from" free.test 2001:db8::7
    for lock in issue_cert_n1.test,n2.test issue_cert_2001:db8::7; do hold "$lock"; done
    cm storage copy --from "$from" --to "$CERTMESH_STORAGE" --json >"$work/out" 2>"$work/err"
    is "$1: copy: exit code where somebody is at work" "$?" 1
    is "$1: copy: two certificates are left" "$(json '(d["n_left"], d["equal"])')" "(6, False)"
    is "$1: copy: each is named" "$(grep -c "is left as it is: .* holds the lock 'issue_cert_" "$work/err")" 2
    is "$1: copy: of them there is nothing" \
        "$(cm storage ls -r certificates | grep -c -e n1.test -e 2001)" 0
    check "$1: copy: the other one is there" cm show free.test
    for lock in issue_cert_n1.test,n2.test issue_cert_2001:db8::7; do release "$lock"; done
    cm storage copy --from "$from" --to "$CERTMESH_STORAGE" --json >"$work/out"
    is "$1: copy: once more brings the rest" "$(json '(d["n_left"], d["n_stored"])')" "(0, 6)"
    sleep 1 # notBefore counts in seconds
    cm renew -q --force --internal free.test
    serial=$(cm show free.test | grep Serial)
    run storage copy --from "$from" --to "$CERTMESH_STORAGE" --json
    is "$1: copy: a newer one stays" "$(json 'd["n_older"] > 0') $(cm show free.test | grep -F "$serial")" \
        "True $serial"
    run storage check
    is "$1: copy: all of it is whole" "$(grep -c '^damaged' <<<"$out")" 0
}

redis() {
    lab redis-lab single || return
    local nodes=(redis)
    r() { "$here/../util/redis-lab" cli "$LAB_DIR" "$@"; }
    w() { r redis "$@" >"$work/said"; cat "$work/said"; }
    export CERTMESH_STORAGE="$REDIS_URL?prefix=top/p%5B1%5D"
    broken_redis redis 'top/p[1]'
    hold() { w set "top/p[1]/locks/$1" theirs px 120000 >/dev/null; }
    release() { w del "top/p[1]/locks/$1" >/dev/null; }
    held_sites redis
}

cluster() {
    lab redis-lab cluster_tls || return
    local nodes=(node0 node1 node2)
    r() { "$here/../util/redis-lab" cli "$LAB_DIR" "$@"; }
    w() { r node0 -c "$@" >"$work/said"; cat "$work/said"; }
    export CERTMESH_STORAGE="$REDIS_URL&prefix=c"
    broken_redis cluster c
    export CERTMESH_STORAGE="$REDIS_URL&prefix={c}"
    broken_redis "cluster, one slot" '{c}'
}

# ----------------------------------------------------------------- postgres

tables() {
    q "select 'd', key, md5(value), '' from certmagic_data where key <> 'last_clean.json'
        union all select 'l', key, '', '' from certmagic_locks order by 1, 2"
}

postgres() {
    local before now long
    lab pg-lab || return
    q() { "$here/../util/pg-lab" psql "$PG_LAB_DIR" -c "$1" 2>&1; }
    export CERTMESH_STORAGE=$PG_URL
    fails "postgres: nothing was ever stored" 0 ' 0 findings' cm storage check
    pairs_and_orphans postgres
    printf 1 >"$work/one"
    for n in a/one b/two; do cm storage put $n "$work/one"; done
    fails "postgres: what is whole is whole" 0 ' 0 findings' cm storage check
    before=$(tables)
    long=$(printf 'l%.0s' $(seq 600))
    q "insert into certmagic_locks values ('issue_cert_dead', now() - interval '1 hour'), ('issue_cert_null', null),
        ('issue_cert_live', now() + interval '30 s'), ('issue_cert_far', now() + interval '3 days'),
        ('issue_cert_just', now() - interval '10 s')"
    q "insert into certmesh_locks values ('issue_cert_alone', 'tok', 5, 0, 'host x, process 1', now() - interval '1 day',
        now() - interval '1 day', now() - interval '1 day'), ('issue_cert_old', '', 5, 0, '', now() - interval '90 days',
        now() - interval '90 days', now() - interval '90 days')"
    q "insert into certmagic_data (key, value) values ('a/one/below', 'x'), ('a//b', 'x'), ('/a', 'x'), ('locks/x.lock', 'x'),
        ('$long', 'x'), ('nothing', null), ('big', convert_to(repeat('x', 1048577), 'UTF8'))"
    q "drop index certmesh_data_tree"
    now=$(tables)
    run storage check
    is "postgres: exit code 1" "$rc" 1
    found "postgres: a lock that has run out" '^storage +issue_cert_dead: .*has run out'
    found "postgres: one without an end" '^storage +issue_cert_null: .*has run out'
    found "postgres: one that does not end" '^storage +issue_cert_far: .*more than a day'
    found "postgres: a holder without lock" '^storage +issue_cert_alone: certmesh_locks names a holder'
    found "postgres: one that nobody wants" '^storage +issue_cert_old: nobody has wanted'
    found "postgres: a value and a directory" "^storage +a/one: it is a value, and 'a/one/below' lies below"
    found "postgres: a key that is none" "^storage +a//b: .*empty component"
    found "postgres: one that begins with a slash" '^storage +/a: '
    found "postgres: one that is too long" '^storage +lllll.*600 bytes'
    found "postgres: one of a file storage" '^storage +locks/x.lock: .*file storage'
    found "postgres: a value that is NULL" '^storage +nothing: .*NULL'
    found "postgres: one that is too large" '^storage +big: .*1048577 bytes'
    found "postgres: an index that is gone" '^storage .*certmesh_data_tree is missing'
    is "postgres: thirteen findings" "$(grep -c '^storage ' <<<"$out")" 13
    is "postgres: looking changes nothing" "$(tables)" "$now"
    run storage check --repair --json
    is "postgres: --repair repairs what it can" "$(json 'd["n_repaired"]')" 5
    is "postgres: locks of the dead are gone, no others" \
        "$(q 'select key from certmagic_locks order by 1' | xargs)" 'issue_cert_far issue_cert_just issue_cert_live'
    is "postgres: the lock that was alone is nobody's, its fence stays" \
        "$(q "select token || fence from certmesh_locks where key = 'issue_cert_alone'")" 5
    is "postgres: the index is there" "$(q "select count(*) from pg_indexes where indexname = 'certmesh_data_tree'")" 1
    q "delete from certmagic_data where key in ('a/one/below', 'a//b', '/a', 'locks/x.lock', '$long', 'nothing', 'big')"
    q "delete from certmagic_locks"
    fails "postgres: nothing is left to find" 0 ' 0 findings' cm storage check
    is "postgres: all else is as it was" "$(tables)" "$before"
    hold() { q "insert into certmagic_locks values ('$1', now() + interval '120 s')"; }
    release() { q "delete from certmagic_locks where key = '$1'"; }
    held_sites postgres

    q "drop table certmesh_locks"
    run storage check
    found "postgres: a table that is gone" '^storage .*table certmesh_locks is missing: the next one'
    fails "postgres: --repair makes it" 0 'certmesh_locks is missing \(done\)' cm storage check --repair
    q "alter table certmesh_locks drop column holder, alter column commits type integer"
    q "alter table certmagic_data drop constraint certmagic_data_pkey"
    run storage check
    found "postgres: a column that is gone" 'table certmesh_locks has no column holder'
    found "postgres: one of another type" 'column commits of table certmesh_locks is not of type bigint'
    found "postgres: keys that can be there twice" 'column key of table certmagic_data is not unique'
}

# ------------------------------------------------------ around other storages

new_key() {
    printf '%s %s\n' "$1" "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')"
}

around() {
    local file=file:$work/inner
    new_key one >"$work/keys"
    chmod 600 "$work/keys"
    export CERTMESH_STORAGE="sealed:?keys=$work/keys&in=$file"
    pairs_and_orphans sealed
    for n in a/one a/two a/three; do cm storage put $n "$work/one"; done
    cm storage get a/one --storage "$file" >"$work/moved"
    { new_key two; cat "$work/keys"; } >"$work/keys.new"
    mv "$work/keys.new" "$work/keys"
    chmod 600 "$work/keys"
    cm storage put a/new "$work/one"
    cm storage put a/plain "$work/one" --storage "$file"
    cm storage put a/three "$work/moved" --storage "$file"
    ln -s /etc/passwd "$work/inner/link"
    run storage check
    is "sealed: exit code 1" "$rc" 1
    found "sealed: values of an old key" "^storage .*other values are sealed with the old key 'one'.* reseal"
    found "sealed: one that is not sealed" '^storage +a/plain: this and 0 other values are not sealed'
    found "sealed: one that was moved" '^storage +a/three: .*'
    found "sealed: what the storage inside finds" '^storage +link: .*symbolic link'
    rm "$work/inner/link"
    cm storage rm a/three
    cm storage reseal >/dev/null
    fails "sealed: nothing is left to find" 0 ' 0 findings' cm storage check
    sed -i 1d "$work/keys"
    fails "sealed: without its key nothing opens" 5 "^storage +a/one: .*sealed with the key 'two'" cm storage check

    cm obtain -q --internal --storage "file:$work/from" m.test
    export CERTMESH_STORAGE="migrate:?from=file:$work/from&to=file:$work/to"
    cm storage ls >/dev/null
    ln -s /etc/passwd "$work/from/link"
    ln -s /etc/passwd "$work/to/other"
    run storage check
    found "migrate: the old one" "^storage +link: in file://$work/from: .*symbolic link"
    found "migrate: and the new one" "^storage +other: in file://$work/to: .*symbolic link"
    run storage check "file:$work/to"
    found "the storage as an argument" '^storage +other: .*symbolic link'
    is "which is the only one then" "$(grep -c '^storage +link' <<<"$out")" 0
}

printf 1 >"$work/one"
around
export CERTMESH_STORAGE=file:$work/plain
pairs_and_orphans file
for server; do "$server"; done
tap_done
