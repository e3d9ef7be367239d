#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A flood of handshakes for names that nobody knows, at a server that gets certificates on demand and
# asks a program about each: no order, nothing in storage, questions at their pace, memory that does
# not grow, honest clients that hardly notice. See ../flood.py.
. "$(dirname "$0")/../common.sh"

count=$(sample 1000000 10000)
rounds=$(sample 3 2)

end() { # PID, if it is still there
    kill "$1" 2>/dev/null
}
wait_for() { # FILE TEXT
    local i
    for ((i = 0; i < 600; i++)); do
        ! grep -qsE -- "$2" "$1" || return 0
        sleep 0.1
    done
    return 1
}
values() { # what is in storage, with times
    find "$store" -type f ! -path '*/locks/*' -printf '%P %s %T@\n' | sort
}
lines() {
    wc -l <"$work/asked"
}

: >"$work/asked"
python3 "$root/tests/integration/ondemand/ask.py" "$work/asked" >"$work/ask.port" 2>/dev/null &
asker=$!
at_exit end "$asker"
wait_for "$work/ask.port" '[0-9]'
report $? "nobody to ask"
tls_port=$(python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
fresh_storage
"$CERTMESH" serve --internal --storage "$storage" --listen 127.0.0.1 --tls-port "$tls_port" \
    --no-http --no-announce --no-clean --no-shared-tickets --on-demand \
    --ask "http://127.0.0.1:$(cat "$work/ask.port")/" localhost >"$work/log" 2>&1 &
server=$!
at_exit end "$server"
wait_for "$work/log" ' is up'
report $? "serve does not come up: $(cat "$work/log")"

before=$(values)
began=$SECONDS
out=$(python3 "$here/flood.py" "$FAULT_TOOLS/hello_flood" "$tls_port" "$server" --count "$count" \
    --rounds "$rounds" 2>&1)
report $? "$out"
echo "$out"
[ "$(values)" = "$before" ]
report $? "storage has changed: $(diff <(echo "$before") <(values) | head -n 5)"
asked=$(lines)
most=$((1000 * (SECONDS - began + 2)))
[ "$asked" -le "$most" ] && [ "$asked" -ge 100 ]
report $? "$asked questions, $most are allowed"
sort "$work/asked" | uniq -d >"$work/twice"
[ ! -s "$work/twice" ]
report $? "asked twice: $(head -n 3 "$work/twice")"
echo "$asked questions in $((SECONDS - began)) s, none twice; 0 orders"
# What the detector is worth: a name that is allowed does change the storage.
timeout 30 openssl s_client -connect "127.0.0.1:$tls_port" -servername yes.flood.example </dev/null \
    >/dev/null 2>&1
[ "$(values)" != "$before" ]
report $? "negative control: an order left nothing in storage"
kill "$server"
wait "$server"
report $? "serve ended with $? after the flood: $(tail -n 3 "$work/log")"
finish
