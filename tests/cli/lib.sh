# SPDX-License-Identifier: Apache-2.0
# What the tests of the command share. Wants $CERTMESH; gives $certmesh, $work, tap functions.
# shellcheck shell=bash

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/util/tap.sh
. "$here/../util/tap.sh"

certmesh=${CERTMESH:?the command to test}
work=$(mktemp -d "${TMPDIR:-/tmp}/certmesh-cli.XXXXXX")
server=

cleanup() {
    if [ -n "$server" ]; then
        kill -KILL "$server" 2>/dev/null
        wait "$server" 2>/dev/null
    fi
    rm -rf "$work"
}
trap cleanup EXIT

# Nothing of the caller's may reach the command: no storage, no CA, no terminal.
unset CERTMESH_STORAGE CERTMESH_CA CERTMESH_CA_ROOT CERTMESH_EMAIL CERTMESH_EAB_KEY XDG_DATA_HOME
export HOME=$work/home NO_COLOR=1
mkdir -p "$HOME"

cm() {
    "$certmesh" "$@" </dev/null
}

# out COMMAND...: its stdout in $out, stderr in $err, exit code in $rc
run() {
    cm "$@" >"$work/out" 2>"$work/err"
    rc=$?
    out=$(cat "$work/out")
    # shellcheck disable=SC2034
    err=$(cat "$work/err")
}

json() { # EXPRESSION over the document d in $out
    python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
print(eval(sys.argv[2]))' "$work/out" "$1" 2>&1
}

free_port() { # below the range of outgoing connections
    python3 - <<'PY'
import random, socket
low = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
for _ in range(200):
    port = random.randrange(10000, min(low, 32000))
    try:
        with socket.socket() as s:
            s.bind(("127.0.0.1", port))
        print(port)
        break
    except OSError:
        pass
PY
}

# Wait until COMMAND succeeds, at most 10 s (slow with sanitizers).
await() {
    local _
    for _ in $(seq 200); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    return 1
}
