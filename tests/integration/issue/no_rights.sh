#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Without the right to open the ports that the CA asks: sockets from systemd serve, and answer for who
# has none. In a network of its own, where all ports of this lab are such.
if [ -z "${NO_RIGHTS_INSIDE:-}" ]; then
    export NO_RIGHTS_INSIDE=1
    if [ "$(id -u)" = 0 ] && unshare -n true 2>/dev/null; then
        exec unshare -n bash "$0"
    elif [ "$(id -u)" != 0 ] && unshare -rn true 2>/dev/null; then
        exec unshare -rn bash "$0"
    fi
    [ -n "${CI:-}${CM_REQUIRE:-}" ] || { echo "1..0 # SKIP no network of our own to be had"; exit 77; }
    echo "Bail out! no network of our own to be had"
    exit 1
fi
. "$(dirname "$0")/common.sh"
lo_up() {
    python3 -c "import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14x', b'lo', 0x41))" # SIOCSIFFLAGS: UP, RUNNING
}
if ! command -v setpriv >/dev/null || ! lo_up; then
    [ -n "${CI:-}${CM_REQUIRE:-}" ] || { echo "1..0 # SKIP setpriv is not installed"; exit 77; }
    echo "Bail out! setpriv is not installed"
    exit 1
fi
lab_up lab LAB_NONCEREJECT=0 LAB_AUTHZREUSE=0
read -r first _ </proc/sys/net/ipv4/ip_local_port_range # those of the lab lie below
echo "$first" >/proc/sys/net/ipv4/ip_unprivileged_port_start || { echo "Bail out! no"; exit 1; }
weak=(setpriv --bounding-set=-net_bind_service --inh-caps=-net_bind_service)

plain() { # ARG...: the command, which may open no port
    "${weak[@]}" "$CERTMESH" "$@" --storage "file://$work/store" --ca "$ACME_DIR" --ca-root "$LAB_CA" \
        --email ops@a.test --agree --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT" --timeout 60
}
await_up() {
    wait_for 30 grep -q 'https://n1.a.test:.* is up' "$work/serve.log"
}

fails "alone it may not" 8 'no right to listen on port' plain obtain n0.a.test
"$here/tests/cli/systemd.py" https="$TLSALPN_PORT" http="$HTTP01_PORT" -- "${weak[@]}" \
    "$CERTMESH" serve n1.a.test n2.a.test --storage "file://$work/store" --ca "$ACME_DIR" \
    --ca-root "$LAB_CA" --email ops@a.test --agree --http-port "$HTTP01_PORT" \
    --tls-port "$TLSALPN_PORT" >"$work/serve.log" 2>&1 &
server=$!
pids+=($server)
check "serve on sockets from systemd gets its certificates" await_up
[ "$tap_failed" = 0 ] || sed 's/^/# /' "$work/serve.log"
check "the pair is good" pair_is_good n1.a.test
check "http-01 of a process without rights is answered there" plain obtain --challenge http-01 n3.a.test
check "so is tls-alpn-01" plain obtain --challenge tls-alpn-01 n4.a.test
check "the pairs are good" pair_is_good n4.a.test
kill "$server"
wait "$server"
is "it ends well" $? 0
fails "when it has gone, nobody has the port" 8 'no right to listen on port' plain obtain n5.a.test
tap_done
