#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `serve` on sockets that systemd has opened; and the units, as far as that can be seen without it:
# test_systemd.sh DIRECTORY-OF-SERVICE SOCKET-UNIT.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"
units=$1
socket_unit=$2
systemd=$here/systemd.py

export CERTMESH_STORAGE=file:$work/store
tls=$(free_port)
http=$(free_port)
while [ "$http" = "$tls" ]; do http=$(free_port); done

# shellcheck disable=SC2317
start() { # SOCKET... -- ARG...; waits until it says that it is up
    local sockets=()
    while [ "$1" != -- ]; do sockets+=("$1"); shift; done
    shift
    : >"$work/serve.err"
    "$systemd" "${sockets[@]}" -- "$certmesh" serve --internal "$@" >"$work/serve.out" \
        2>"$work/serve.err" </dev/null &
    server=$!
    await grep -q ' is up' "$work/serve.err"
}
finish() {
    kill -s TERM "$server"
    wait "$server"
    rc=$?
    server=
}
get() {
    curl -sS --max-time 10 --cacert "$work/root.pem" "$@"
}
refused() { # WHAT PATTERN SOCKET... [-- ARG...]
    local what=$1 pattern=$2 sockets=()
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do sockets+=("$1"); shift; done
    [ $# -eq 0 ] || shift
    fails "$what" 8 "$pattern" "$systemd" "${sockets[@]}" -- "$certmesh" serve --internal "$@" a.test
}
cm trust --internal --out "$work/root.pem" 2>/dev/null

# ---- by name; the ports say nothing
start https="$tls" http="$http" -- localhost
tap_result $? "serve comes up on sockets with names" "$(cat "$work/serve.err")"
like "says whose they are" "$(cat "$work/serve.err")" \
    "serving HTTPS on port $tls of what systemd listens on; port $http redirects to it"
check "TLS on the one" get -o /dev/null "https://localhost:$tls/"
is "HTTP on the other" "$(get -o /dev/null -w '%{redirect_url}' "http://localhost:$http/a")" \
    "https://localhost:$tls/a"
check "IPv4 and IPv6 on the same socket" get -o /dev/null --resolve "localhost:$tls:127.0.0.1" \
    "https://localhost:$tls/"
is "they do not block, and are not for programs that it runs" \
    "$(python3 - "$server" <<'PY'
import sys
for fd in (3, 4):
    flags = [l for l in open("/proc/%s/fdinfo/%d" % (sys.argv[1], fd)) if l.startswith("flags")]
    print("%d" % (int(flags[0].split()[1], 8) & 0o2004000 == 0o2004000), end="")
PY
)" 11
finish
is "ends well" "$rc" 0

# ---- by port
start "$http" "$tls" -- --tls-port "$tls" --http-port "$http" localhost
tap_result $? "serve comes up on sockets without names" "$(cat "$work/serve.err")"
check "the port decides: TLS" get -o /dev/null "https://localhost:$tls/"
is "the port decides: HTTP" "$(get -o /dev/null -w '%{http_code}' "http://localhost:$http/")" 308
finish

# ---- only one of them: the other is opened
start https="$tls" -- --listen 127.0.0.1 --http-port "$http" localhost
tap_result $? "serve comes up with one socket" "$(cat "$work/serve.err")"
is "and opens the other port itself" \
    "$(get -o /dev/null -w '%{http_code}' --resolve "localhost:$http:127.0.0.1" "http://localhost:$http/")" 308
finish

# ---- not for us
export SYSTEMD_PID=1
start 0 -- --listen 127.0.0.1 --tls-port "$tls" --no-http localhost
tap_result $? "sockets for another process are left alone" "$(cat "$work/serve.err")"
finish
unset SYSTEMD_PID

# ---- nonsense
refused "a socket for neither" "socket of systemd on port $http .'other'.: for TLS or for HTTP" other="$http"
refused "UDP" "is no TCP socket" https=udp
refused "a Unix socket" "is no TCP socket" https=unix
refused "one that does not listen" "does not listen" https=quiet
refused "no socket" "is no socket" https=file
refused "nothing" "is (not open|no socket)" https=closed
SYSTEMD_FDS=x refused "a count that is none" "LISTEN_FDS is no number" https="$tls"
SYSTEMD_FDS=99 refused "too many" "LISTEN_FDS is 99" https="$tls"
SYSTEMD_FDS=2 refused "more than there are" "LISTEN_FDNAMES has 1 names, and LISTEN_FDS is 2" https="$tls"
SYSTEMD_PID=me refused "a process that is none" "LISTEN_PID is no number" https="$tls"
refused "--no-http and a socket for HTTP" "no-http wants none" https="$tls" http="$http" -- --no-http

# ---- the units
check "the service runs certmesh" grep -q "^ExecStart=/.*/certmesh serve " "$units/certmesh.service"
if command -v systemd-analyze >/dev/null; then
    mkdir "$work/units"
    cp "$socket_unit" "$work/units"
    sed "s#^ExecStart=[^ ]*#ExecStart=$(readlink -f "$certmesh")#" "$units/certmesh.service" \
        >"$work/units/certmesh.service"
    run_verify() { (cd "$work/units" && systemd-analyze verify --man=no ./certmesh.service ./certmesh.socket 2>&1); }
    is "systemd-analyze has nothing to say of the units" "$(run_verify)" ""
    sed -i 's/^DynamicUser/DynamicUsr/' "$work/units/certmesh.service"
    like "and would" "$(run_verify)" "DynamicUsr"
else
    echo "# systemd-analyze is not installed: the units were not looked at"
fi
tap_done
