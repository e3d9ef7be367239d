#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Very many clients at once that want one name, over connections, amid others that stall: one question,
# one order, all served; or all refused. With CM_FULL=1 10,000 of them, or as many as descriptors allow.
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/util/tap.sh
. "$here/../../util/tap.sh"
: "${CERTMESH:?path of certmesh}"

work=$(mktemp -d "${TMPDIR:-/tmp}/cm-herd.XXXXXX")
pids=()
clean_up() {
    [ "${#pids[@]}" = 0 ] || kill "${pids[@]}" 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
ulimit -S -n "$(ulimit -H -n)" 2>/dev/null
clients=200
stalled=200
if [ "${CM_FULL:-}" = 1 ]; then
    stalled=2000
    clients=$((($(ulimit -n) - stalled - 1000) / 2)) # who waits has a timer, too
    [ "$clients" -le 10000 ] || clients=10000
fi

wait_for() { # FILE TEXT
    local i
    for ((i = 0; i < 600; i++)); do
        ! grep -qsE -- "$2" "$1" || return 0
        sleep 0.1
    done
    return 1
}
asked() { # NAME
    grep -cx -- "$1" "$work/asked"
}
orders() { # beside its first line the note has one for each
    local note=$work/store/certmesh/ondemand/orders
    [ -f "$note" ] || { echo 0; return; }
    grep -cE '^[0-9]+ ' "$note"
}
herd() { # NAME CLIENTS STALLED
    python3 "$here/herd.py" "$port" "$@" 2>&1
}

: >"$work/asked"
python3 "$here/ask.py" "$work/asked" >"$work/ask.port" 2>/dev/null &
pids+=($!)
wait_for "$work/ask.port" '[0-9]' || { echo "Bail out! nobody to ask"; exit 1; }
port=$(python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
mkdir -m 700 "$work/store"
"$CERTMESH" serve --internal --storage "file://$work/store" --listen 127.0.0.1 --tls-port "$port" \
    --no-http --no-announce --no-clean --no-shared-tickets --on-demand \
    --ask "http://127.0.0.1:$(cat "$work/ask.port")/" localhost >"$work/log" 2>&1 &
server=$!
pids+=("$server")
wait_for "$work/log" ' is up' || { echo "Bail out! no server: $(cat "$work/log")"; exit 1; }

# A decision may take two seconds, and a handshake ten: a busy machine may need longer, which is no
# fault. So it gets some more chances; the figures are those of the last.
for try in 1 2 3; do
    name=herd$try.many.example
    before=$(orders)
    got=$(herd "$name" "$clients" "$stalled")
    [[ "$got" != "served $clients, "* ]] || break
done
echo "# $got"
like "$clients connections for one name are all served by one certificate, amid $stalled that stall" \
    "$got" "^served $clients, refused 0, other 0, certificates 1,"
like "which are all closed" "$got" ", stalled $stalled of $stalled closed"
is "with one question and one order" "$(asked "$name") $(($(orders) - before))" "1 1"

before=$(orders)
got=$(herd no-herd.many.example "$clients" 0)
echo "# $got"
like "$clients connections for a name that is denied are all refused" "$got" \
    "^served 0, refused $clients, other 0,"
is "with one question and no order" "$(asked no-herd.many.example) $(($(orders) - before))" "1 0"
kill "$server"
wait "$server"
is "the server stood it" "$?" 0
tap_done
