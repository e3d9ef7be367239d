# SPDX-License-Identifier: Apache-2.0
# Servers of the local CA on one directory, each on ports of its own.
# shellcheck shell=bash
# shellcheck source=tests/util/tap.sh
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$here/util/tap.sh"

work=$(mktemp -d)
store=$work/store
declare -A node_pid=() node_port=()

end_nodes() {
    local label
    for label in "${!node_pid[@]}"; do
        kill -CONT "${node_pid[$label]}" 2>/dev/null
        kill -KILL "${node_pid[$label]}" 2>/dev/null
    done
    wait 2>/dev/null
    rm -rf "$work"
}
trap end_nodes EXIT

await() { # COMMAND...: until it succeeds, or ten seconds have passed
    local i
    for ((i = 0; i < 100; i++)); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    return 1
}

free_port() {
    python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# start LABEL [OPTION...] NAME...: a server; what it says is in $work/LABEL.err
start() {
    local label=$1 i
    shift
    for ((i = 0; i < 5; i++)); do # another process may be faster at a port that was free
        node_port[$label]=$(free_port)
        "$CERTMESH" serve --internal --root "${STORE:-$store}" --listen 127.0.0.1 --no-http -v \
            --tls-port "${node_port[$label]}" "$@" \
            >"$work/$label.out" 2>"$work/$label.err" </dev/null &
        node_pid[$label]=$!
        await grep -q "https://.* is up" "$work/$label.err" && return 0
        kill "${node_pid[$label]}" 2>/dev/null
        wait "${node_pid[$label]}"
    done
    echo "Bail out! $label does not serve: $(tail -n 3 "$work/$label.err")"
    exit 1
}

stop() { # LABEL [SIGNAL]
    kill "-${2:-TERM}" "${node_pid[$1]}"
    wait "${node_pid[$1]}" 2>/dev/null
    unset "node_pid[$1]"
}
