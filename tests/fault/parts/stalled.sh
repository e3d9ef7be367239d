#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Thousands of connections that stall, on every listener there is: the two of `serve`, which gets
# certificates on demand too, and the two that are open while challenges are. All have to be closed at their deadline, an honest client must
# hardly notice, descriptors and memory have to come back. And the same with hardly any descriptors.
# How the honest client is measured on a noisy machine is told in ../stall.py.
. "$(dirname "$0")/../common.sh"

count=$(sample 10000 4000)
ulimit -n 15000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
[ "$(ulimit -n)" -ge 14000 ]
report $? "$(ulimit -n) descriptors are too few for a flood, 14000 are needed"

free_ports() { # N: that many ports that nobody listens on
    python3 - "$1" <<'PY'
import socket, sys
s = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in s:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in s))
PY
}

end() { # PID, if it is still there
    kill "$1" 2>/dev/null
}

wait_for() { # FILE TEXT
    local i
    for ((i = 0; i < 300; i++)); do
        ! grep -qs -- "$2" "$1" || return 0
        sleep 0.1
    done
    return 1
}

serve() { # LOG: in the background; sets $server $tls_port $http_port
    fresh_storage
    read -r tls_port http_port < <(free_ports 2)
    "$CERTMESH" serve --internal --storage "file://$work/serve" --listen 127.0.0.1 \
        --tls-port "$tls_port" --http-port "$http_port" --on-demand --allow on-demand.test \
        localhost >"$1" 2>&1 &
    server=$!
    at_exit end "$server"
    wait_for "$1" ' is up'
    report $? "serve does not come up: $(cat "$1")"
}

stop() { # it is up to the end, and ends cleanly
    kill "$server"
    wait "$server"
    report $? "serve ended with $? after the flood: $(tail -n 3 "$1")"
}

stall() { # LABEL KIND PORT PID ARG...
    local out rc
    out=$("$here/stall.py" "$@" 2>&1)
    rc=$?
    report $rc "$out"
    [ $rc != 0 ] || echo "$out"
}

must_notice() { # TEXT LABEL KIND PORT PID ARG...
    local text=$1 out
    shift
    out=$("$here/stall.py" "$@" 2>&1)
    [ $? = 1 ] && grep -q -- "$text" <<<"$out"
    report $? "negative control: nobody said '$text': $out"
}

mkdir -m 700 "$work/serve"
serve "$work/log"
stall https https "$tls_port" "$server" --count "$count" --peak $((count * 7 / 10)) --hello
stall http http "$http_port" "$server" --count "$count"
# What the detectors are worth.
must_notice 'are still open after' control http "$http_port" "$server" --count 100 --limit 2 \
    --rounds 1 --idle 1
must_notice 'honest p99' control https "$tls_port" "$server" --count 100 --sabotage --rounds 1 \
    --idle 1
stop "$work/log"

# An issuance whose challenges are open all the while.
read -r tls_port http_port < <(free_ports 2)
mkfifo "$work/hold"
ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=1 "$FAULT_TOOLS/challenge_holder" "$http_port" \
    "$tls_port" <"$work/hold" >"$work/held" 2>&1 &
holder=$!
at_exit end "$holder"
exec 9>"$work/hold"
wait_for "$work/held" open
report $? "no challenge is open: $(cat "$work/held")"
stall challenge-tls https "$tls_port" "$holder" --count "$count" --peak 1000 --limit 5 --hello \
    --name a.test --alpn acme-tls/1 --rss-kib 65536
stall challenge-http http "$http_port" "$holder" --count "$count" --peak 1000 --limit 5 \
    --name a.test --path /.well-known/acme-challenge/token --status 'HTTP/1.1 200' --rss-kib 65536
exec 9>&-
wait "$holder"
report $? "the challenges were not given up cleanly: $(cat "$work/held")"

# Hardly any descriptors: it closes the oldest, goes on serving, and does not spin.
ulimit -S -n 64
serve "$work/log.low"
ulimit -S -n 4096
stall 'https, ulimit -n 64' https "$tls_port" "$server" --count 400 --rate 400 --peak 40 \
    --may-fail 1 --idle 1
spent=$(python3 - "$tls_port" "$server" <<'PY'
import socket, sys, time
port, pid = int(sys.argv[1]), sys.argv[2]
def ticks():
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
s = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
time.sleep(0.5)
before = ticks()
time.sleep(2)
print(ticks() - before)
PY
)
[ "$spent" -le 20 ]
report $? "with all descriptors taken it used $spent ticks of 200: it spins"
echo "ulimit -n 64: $spent of 200 ticks used with all descriptors taken"
stop "$work/log.low"
finish
