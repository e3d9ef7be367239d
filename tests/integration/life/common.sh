# SPDX-License-Identifier: Apache-2.0
# What the tests of the life of certificates share, beyond those that issue one.
# shellcheck shell=bash
# shellcheck source=tests/integration/issue/common.sh
life=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$life/../issue/common.sh"

ocsp_ctl() { # QUERY: tell the responder, see tests/util/ocspd
    curl -s -f -d '' "$OCSP_URL/ctl?$1" >/dev/null || echo "Bail out! the responder does not take $1"
}

ocsp_state() { # EXPRESSION over its report d
    curl -s "$OCSP_URL/ctl" | python3 -c 'import json, sys
d = json.load(sys.stdin)
print(eval(sys.argv[1]))' "$1"
}

declare -A served_pid=()

# start_serve LABEL [OPTION...] NAME...: the command as a server on the ports that the CA asks, its
# log in $work/LABEL.log.
start_serve() {
    local label=$1
    shift
    cm_exec=exec cm serve "$@" >"$work/$label.log" 2>&1 </dev/null &
    served_pid[$label]=$!
    pids+=($!)
}

stop_serve() { # LABEL: sets served_rc
    kill "${served_pid[$1]}" 2>/dev/null
    wait "${served_pid[$1]}"
    served_rc=$?
    unset "served_pid[$1]"
}

# run_load RENEWALS SECONDS PER_SECOND NAME...: see load.py; its report is for loaded()
run_load() {
    python3 "$life/load.py" "${PORT:-$TLSALPN_PORT}" "${TRUST:-$PEBBLE_ROOT}" "$@" \
        >"$work/load.json"
}

loaded() { # EXPRESSION over the report d
    python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
print(eval(sys.argv[2]))' "$work/load.json" "$1"
}
