# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The storages that a fleet may share, for tests that run on each: a server of one's own on
# 127.0.0.1, places in it, and what may happen to it. Source it in the shell that lives longest: a
# server goes when the shell that started it does.
#
#   backend_up KIND DIR PORT     file, redis (it keeps what it is told over a kill), redis_volatile
#                                (it forgets all), postgres; sets backend
#   backend_place NAME           an empty storage: its URL is in $place_url
#   backend_locks                how many locks there are in the last place, expired ones as well
#   backend_kill, backend_start  kill -9; start again with what there is on disk
#   backend_signal SIGNAL
#   backend_ask WORD...          redis-cli, psql
#   backend_down
#
# Status 77 of backend_up: a program is missing.

backend='' backend_dir='' backend_port='' backend_pid='' place_url='' place_name=''

backend_up() {
    backend=$1 backend_dir=$2 backend_port=$3
    case $backend in
    file) mkdir -p -m 700 "$backend_dir" ;;
    redis*)
        command -v redis-server >/dev/null && command -v redis-cli >/dev/null || return 77
        mkdir -p -m 700 "$backend_dir"
        # Each write goes to the kernel before it is answered, so a kill loses nothing.
        cat >"$backend_dir/redis.conf" <<C
bind 127.0.0.1
port $backend_port
dir $backend_dir
save ""
appendonly $([ "$backend" = redis_volatile ] && echo no || echo yes)
appendfsync no
enable-debug-command local
C
        backend_start
        ;;
    postgres)
        postgres_bin=$(postgres_programs) || return 77
        postgres_init && backend_start
        ;;
    *) return 2 ;;
    esac
}

postgres_programs() { # where they are: Debian has them not in PATH
    local dir
    for dir in /usr/lib/postgresql/*/bin; do
        [ ! -x "$dir/initdb" ] || { echo "$dir"; return; }
    done
    dirname "$(command -v initdb)" 2>/dev/null
}

# It refuses to run as root.
postgres_as=(setpriv --pdeathsig KILL)
[ "$(id -u)" != 0 ] || postgres_as+=(--reuid=postgres --regid=postgres --init-groups)

postgres_init() {
    mkdir -p "$backend_dir" && chmod 711 "$backend_dir" && mkdir -m 700 "$backend_dir/data" || return
    [ "$(id -u)" != 0 ] || chown postgres "$backend_dir/data"
    (cd / && "${postgres_as[@]}" -- "$postgres_bin/initdb" -D "$backend_dir/data" -U postgres -A trust -N -E UTF8 \
        --locale=C) >"$backend_dir/initdb.log" 2>&1 || return
    cat >>"$backend_dir/data/postgresql.conf" <<C
listen_addresses = '127.0.0.1'
port = $backend_port
unix_socket_directories = ''
fsync = off
shared_buffers = 16MB
max_connections = 200
C
}

backend_start() {
    local end=$((SECONDS + 30))
    case $backend in
    file) return ;;
    redis*)
        setpriv --pdeathsig KILL -- redis-server "$backend_dir/redis.conf" >>"$backend_dir/log" 2>&1 \
            </dev/null &
        backend_pid=$!
        until [ "$(backend_ask ping 2>&1)" = PONG ]; do
            [ $SECONDS -lt $end ] || { tail -n 5 "$backend_dir/log"; return 1; }
            sleep 0.02
        done
        ;;
    postgres)
        # While processes of one that was killed are still there the next one gives up.
        until (exec 3<>"/dev/tcp/127.0.0.1/$backend_port") 2>/dev/null && [ "$(backend_ask 'select 1' 2>&1)" = 1 ]; do
            [ $SECONDS -lt $end ] || { tail -n 5 "$backend_dir/log"; return 1; }
            if [ -z "$backend_pid" ] || ! kill -0 "$backend_pid" 2>/dev/null; then
                "${postgres_as[@]}" -- "$postgres_bin/postgres" -D "$backend_dir/data" >>"$backend_dir/log" 2>&1 \
                    </dev/null &
                backend_pid=$!
            fi
            sleep 0.05
        done
        ;;
    esac
}

backend_ask() {
    case $backend in
    redis*) timeout 10 redis-cli -p "$backend_port" "$@" ;;
    postgres)
        timeout 10 psql -XAtq -h 127.0.0.1 -p "$backend_port" -U postgres -d postgres -c "$1" ;;
    esac
}

backend_place() {
    place_name=$1
    case $backend in
    file)
        mkdir -p -m 700 "$backend_dir/$1"
        place_url=file://$backend_dir/$1
        ;;
    redis*) place_url="redis://127.0.0.1:$backend_port/0?prefix=$1" ;;
    postgres)
        backend_ask "create schema \"$1\"" || return
        place_url="postgres://postgres@127.0.0.1:$backend_port/postgres?options=-csearch_path%3D$1"
        ;;
    esac
}

backend_locks() {
    case $backend in
    file) find "$backend_dir/$place_name/locks" -name '*.lock' 2>/dev/null | wc -l ;;
    redis*) backend_ask --scan --pattern "$place_name/locks/*" | grep -c . ;;
    postgres) backend_ask "select count(*) from \"$place_name\".certmagic_locks" ;;
    esac
}

backend_signal() {
    [ -z "$backend_pid" ] || kill -s "$1" "$backend_pid"
}

backend_kill() {
    [ -n "$backend_pid" ] || return 0
    kill -KILL "$backend_pid" 2>/dev/null
    wait "$backend_pid" 2>/dev/null
    backend_pid=
}

backend_down() {
    [ -n "$backend_pid" ] || return 0
    backend_signal CONT
    case $backend in
    postgres) backend_signal QUIT ;; # at once
    *) backend_signal KILL ;;
    esac
    wait "$backend_pid" 2>/dev/null
    backend_pid=
}
