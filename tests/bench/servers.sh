# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The servers that parts of ./dev bench measure against, on private ports of this machine, ended with
# the part. They keep what they acknowledge as their defaults have it: Redis with an append-only file
# flushed each second, PostgreSQL with fsync and synchronous_commit. LAB_AOF, LAB_FSYNC change that.
#
#   servers_up        sets servers: which there are, of redis and postgres
#   servers_place     all that they hold is removed
#   servers_url KIND  of: redis-unix, redis-tcp, redis-tls, postgres-unix, postgres-tcp, postgres-tls
# shellcheck disable=SC2154

servers=()

servers_up() {
    local vars
    if vars=$(env LAB_OWNER=$$ LAB_AOF="${LAB_AOF:-everysec}" \
        "$root/tests/util/redis-lab" up "$work/redis" single); then
        at_exit "$root/tests/util/redis-lab" down "$work/redis"
        eval "$vars"
        servers+=(redis)
    else
        [ $? = 77 ] || die 'Redis does not start'
    fi
    chmod 711 "$work" # the user postgres goes through it
    if vars=$(env LAB_OWNER=$$ LAB_FSYNC="${LAB_FSYNC:-on}" \
        "$root/tests/util/pg-lab" up "$work/postgres"); then
        at_exit "$root/tests/util/pg-lab" down "$work/postgres"
        eval "$vars"
        servers+=(postgres)
    else
        [ $? = 77 ] || die 'PostgreSQL does not start'
    fi
}

servers_place() {
    local one
    for one in "${servers[@]}"; do
        case $one in
        redis) redis_admin flushall >/dev/null ;;
        postgres)
            "$root/tests/util/pg-lab" psql "$work/postgres" \
                -c 'drop schema public cascade; create schema public authorization cm' \
                >"$work/psql.log" 2>&1 || die "psql: $(tail -n 3 "$work/psql.log")"
            ;;
        esac
    done
}

redis_admin() {
    "$root/tests/util/redis-lab" cli "$work/redis" redis "$@"
}

servers_url() {
    case $1 in
    redis-unix) echo "$REDIS_UNIX_URL" ;;
    redis-tcp) echo "$REDIS_URL" ;;
    redis-tls) echo "$REDIS_TLS_URL" ;;
    postgres-unix) echo "postgres://cm@/cm?host=$work/postgres/server&port=$PG_PORT" ;;
    postgres-tcp) echo "$PG_URL?sslmode=disable" ;;
    postgres-tls) echo "$PG_TLS_URL" ;;
    esac
}
