#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What each operation of a storage takes, per backend and kind of connection, with one caller and
# with eight at once. The limit is the server's own tool, on the same server over the same kind of
# connection in the same run: redis-benchmark, pgbench; for files, plain calls.
#
#          Redis                       PostgreSQL                      files
#   lock   twice a script that does    insert one row, delete it       create a file, remove it
#          nothing
#   store  SET of the value            INSERT ... ON CONFLICT          write, flush, rename, flush
#   load   GET                         SELECT by key                   open, read
#   commit a script that sets three    three INSERT ... ON CONFLICT in  the same as store, three times,
#          values                      one transaction, one pipeline    one flush of the directory
#   many   pipelines of 256 GET        SELECT of 256 keys              open, read, 256 times
. "$(dirname "$0")/../common.sh"
. "$here/servers.sh"

ms=$(pick 10 300 2000)
ops=(lock store load commit many)
value=$(printf '%*s' 1500 '' | tr ' ' k)
part_key=${value:0:240} part_json=${value:0:120}

line() { # WHAT LIMIT/S OURS/S RATIO LIMIT-TIMES OUR-TIMES
    printf '%-32s %10s %10s %7s   %15s %15s\n' "$@"
}

# ---- what is measured beside; each prints lines as bench-storage does

of_csv() { # NAME TIMES EACH, a csv of redis-benchmark on stdin: so many calls are one, EACH counts
    awk -F '","' -v name="$1" -v times="$2" 'NR == 2 {
        printf "%s %.0f %.1f %.1f\n", name, $2 / times, $5 * 1000 * times, $7 * 1000 * times }'
}

declare -A redis_script
redis_scripts() {
    redis_script[nothing]=$(redis_admin script load 'return 1')
    redis_script[three]=$(redis_admin script load \
        "for i = 1, 3 do redis.call('SET', KEYS[i], ARGV[i]) end return 1")
}

raw_redis() { # KIND CALLERS
    local how=(-h 127.0.0.1 -p "$REDIS_PORT") n=$((ms * $(pick 10 20 20))) key=raw:__rand_int__
    case $1 in
    *-unix) how=(-s "$REDIS_SOCKET") ;;
    *-tls) how=(-h 127.0.0.1 -p "$REDIS_TLS_PORT" --tls --cacert "$LAB_CA") ;;
    esac
    how+=(--user admin -a adminpw -c "$2" -r 256 --csv --precision 3)
    bench() { # N ARG...
        redis-benchmark "${how[@]}" -n "$@" 2>"$work/raw.err" ||
            die "redis-benchmark: $(cat "$work/raw.err")"
    }
    bench "$n" evalsha "${redis_script[nothing]}" 1 $key | of_csv lock 2
    bench "$n" set $key "$value" | of_csv store 1
    bench "$n" get $key | of_csv load 1
    bench "$n" evalsha "${redis_script[three]}" 3 $key:1 $key:2 $key:3 "$part_key" "$value" \
        "$part_json" | of_csv commit 1
    bench $((n * 10)) -P 256 get $key | of_csv many 1
}

pg_scripts() {
    local i up="insert into raw values (:k || '%s', :%s::bytea, clock_timestamp()) on conflict (key)
 do update set value = excluded.value, modified = excluded.modified;\n"
    # As a table of the backend has it.
    "$root/tests/util/pg-lab" psql "$work/postgres" -c "create table raw (key text primary key,
        value bytea not null, modified timestamptz not null default current_timestamp);
        alter table raw owner to cm" -c "insert into raw select i || '.s', '$value'
        from generate_series(1, 256) i" >"$work/psql.log" 2>&1 ||
        die "psql: $(tail -n 3 "$work/psql.log")"
    mkdir "$work/pgbench"
    for i in "${ops[@]}"; do
        echo "\\set k random(1, 256)" >"$work/pgbench/$i"
    done
    # One line is one statement for pgbench, so all are joined.
    {
        # shellcheck disable=SC2059
        printf "$up" .l json
        echo "delete from raw where key = :k || '.l';"
    } >>"$work/pgbench/lock"
    # shellcheck disable=SC2059
    printf "$up" .s value >>"$work/pgbench/store"
    echo "select value from raw where key = :k || '.s';" >>"$work/pgbench/load"
    {
        echo '\startpipeline'
        echo 'begin;'
        # shellcheck disable=SC2059
        printf "$up$up$up" .1 key .2 value .3 json
        echo 'commit;'
        echo '\endpipeline'
    } >>"$work/pgbench/commit"
    echo "select value from raw where key = any (array(select i || '.s' from generate_series(1, 256) i));" \
        >>"$work/pgbench/many"
}

raw_postgres() { # KIND CALLERS
    local op each=1
    for op in "${ops[@]}"; do
        [ "$op" = many ] && each=256
        rm -f "$work"/pgbench/log.*
        # The value comes as a parameter, as ours does.
        (cd "$work/pgbench" && pgbench -n -M extended -c "$2" -j 1 -t $((ms * $(pick 2 6 6) / each / $2 + 10)) \
            -D "value=$value" -D "key=$part_key" -D "json=$part_json" -f "$op" -l \
            --log-prefix=log "$(servers_url "$1")") >"$work/raw.out" 2>"$work/raw.err" ||
            die "pgbench: $(tail -n 3 "$work/raw.err")"
        # client, transaction, us, ...; at the beginning a connection is not warm yet
        cat "$work"/pgbench/log.* | awk '$2 > 2 { print $3 }' | sort -n |
            awk -v name="$op" -v callers="$2" -v each=$each '{ v[NR] = $1; sum += $1 }
            END { printf "%s %.0f %.1f %.1f\n", name, NR * each / (sum / callers / 1e6),
                v[int((NR + 1) / 2)], v[int(NR * 0.99 + 0.5)] }'
    done
}

# ---- side by side

measure() { # KIND URL CALLERS
    local op limit_s limit_50 limit_99 s p50 p99
    case $1 in
    file) "$BENCH_TOOLS/bench-storage" floor "$work/floor" "$3" "$ms" ;;
    redis-*) raw_redis "$1" "$3" ;;
    postgres-*) raw_postgres "$1" "$3" ;;
    esac >"$work/limit" || die "$1: no limit"
    "$BENCH_TOOLS/bench-storage" ours "$2" "$3" "$ms" >"$work/ours" || die "$1: storage failed"
    for op in "${ops[@]}"; do
        read -r limit_s limit_50 limit_99 < <(sed -n "s/^$op //p" "$work/limit") ||
            die "$1: no limit of $op"
        read -r s p50 p99 < <(sed -n "s/^$op //p" "$work/ours") || die "$1: no $op"
        line "$1, $3: $op" "$limit_s" "$s" "$(calc "$s / $limit_s")" "$limit_50/$limit_99" \
            "$p50/$p99"
    done
}

servers_up
line 'backend, callers: operation' limit/s ours/s ratio 'limit p50/p99' 'ours us'
[[ " ${servers[*]} " != *" redis "* ]] || redis_scripts
[[ " ${servers[*]} " != *" postgres "* ]] || pg_scripts
mkdir "$work/floor"
for callers in 1 8; do
    measure file "file://$work/store" $callers
    for server in "${servers[@]}"; do
        for how in unix tcp tls; do
            # Smoke: each way of connecting, each number of callers, but not all of both.
            [ "$mode" != smoke ] || [ "$how$callers" = tls1 ] || [ "$how$callers" = unix8 ] || continue
            measure "$server-$how" "$(servers_url "$server-$how")" $callers
        done
    done
done
