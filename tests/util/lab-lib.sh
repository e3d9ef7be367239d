# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the labs share: processes that are recorded in $dir/pids and ended only while they are still
# the same, and ports that no other lab uses. Sourced; the caller has set $tools, and $dir before he
# calls anything.

PORT_FIRST=16000 PORT_BLOCK=16 PORT_BLOCKS=1000
lab=$(basename "$0")
self=$tools/$lab

die() {
    echo "$lab: $*" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null && return
    echo "$lab: $1 is missing (Debian package: $2)" >&2
    [ -z "${CI:-}${CM_REQUIRE:-}" ] || exit 1
    exit 77
}

# ---- processes: only what is recorded, and only while it is still the same program

is_ours() { # PID COMM; not if it is dead and only not yet buried
    [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ] && ! grep -qs '^State:.Z' "/proc/$1/status"
}

start() { # NAME PROGRAM ARG...; its output goes to DIR/NAME.log
    local name=$1
    shift
    setsid "$@" >>"$dir/$name.log" 2>&1 </dev/null &
    printf '%s %s %s\n' $! "$(basename "$1" | cut -c 1-15)" "$name" >>"$dir/pids"
}

stop() { # [NAME]: this one or all
    local pid comm name tries=0 left signal=TERM
    [ -f "$dir/pids" ] || return 0
    while :; do
        left=0
        while read -r pid comm name; do
            [ "${1:-$name}" = "$name" ] && is_ours "$pid" "$comm" || continue
            left=1
            # Each leads a process group of its own. A stopped process takes no other signal.
            kill -s CONT -- "-$pid" 2>/dev/null || true
            kill -s "$signal" -- "-$pid" 2>/dev/null || true
        done <"$dir/pids"
        [ $left = 1 ] || break
        tries=$((tries + 1))
        [ $tries -lt 200 ] || signal=KILL
        sleep 0.02
    done
    if [ -n "${1:-}" ]; then
        sed -i "/ $1\$/d" "$dir/pids"
    fi
}

# ---- ports: a block of 16 of one's own, below those that outgoing connections are given. The
# ports of the challenges stay unbound until the program under test comes; so blocks are claimed.

claims=${TMPDIR:-/tmp}/certmesh-lab-ports.$(id -u)

ports_are_free() { # FIRST
    python3 - "$1" "$PORT_BLOCK" <<'PY'
import socket, sys
first, n = int(sys.argv[1]), int(sys.argv[2])
try:
    for port in range(first, first + n):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(type=kind) as s:
                s.bind(("127.0.0.1", port))
except OSError:
    sys.exit(1)
PY
}

claim_ports() { # sets $port
    local low tries owner
    read -r low _ </proc/sys/net/ipv4/ip_local_port_range
    mkdir -p -m 700 "$claims"
    for tries in $(seq 200); do
        port=$((PORT_FIRST + RANDOM % PORT_BLOCKS * PORT_BLOCK))
        [ $((port + PORT_BLOCK)) -le "$low" ] || continue
        owner=$(readlink "$claims/$port" || true)
        [ -z "$owner" ] || [ -d "$owner" ] || rm -f "$claims/$port"
        ln -s "$dir" "$claims/$port" 2>/dev/null || continue
        if ports_are_free "$port"; then
            echo "$port" >"$dir/ports"
            return
        fi
        rm -f "$claims/$port"
    done
    die "no 16 free ports next to each other"
}

await() { # NAME COMMAND...: for at most half a minute
    local name=$1 deadline=$((SECONDS + 30))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ]; then
            echo "$lab: $name did not become ready; the end of its log:" >&2
            tail -n 20 "$dir/$name.log" >&2 || true
            stop
            exit 1
        fi
        sleep 0.02
    done
}

signal() { # NAME SIGNAL
    local pid comm name
    while read -r pid comm name; do
        if [ "$name" = "$1" ] && is_ours "$pid" "$comm"; then
            kill -s "$2" -- "-$pid"
            return
        fi
    done <"$dir/pids"
    die "there is no $1 that runs"
}

watch_owner() { # when process LAB_OWNER ends, so does this lab
    [ -z "${LAB_OWNER:-}" ] || start watch "$BASH" -c \
        'tail --pid="$1" -s 0.5 -f /dev/null; exec "$2" down "$3"' watch "$LAB_OWNER" "$self" "$dir"
}

release() { # end everything, give the ports back, remove DIR
    [ -f "$dir/ports" ] || die "$dir is not a lab"
    stop
    [ "$(readlink "$claims/$port")" != "$dir" ] || rm -f "$claims/$port"
    rm -rf "$dir"
}
