#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A server keeps its certificates fresh: here they live for twelve seconds.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

lab=$here/../util/lab
env_lines=$(LAB_VALIDITY=12 LAB_OWNER=$$ "$lab" up "$work/lab")
rc=$?
if [ $rc = 77 ]; then
    echo "1..0 # SKIP no pebble"
    exit 0
fi
[ $rc = 0 ] || exit 1
eval "$env_lines"
trap '"$lab" down "$work/lab"; cleanup' EXIT

export CERTMESH_STORAGE=file:$work/store CERTMESH_CA=$ACME_DIR CERTMESH_CA_ROOT=$LAB_CA
serial() {
    openssl s_client -connect "127.0.0.1:$TLSALPN_PORT" -servername a.test </dev/null 2>/dev/null |
        openssl x509 -noout -serial
}
# shellcheck disable=SC2317
other_serial() {
    [ "$(serial)" != "$first" ]
}

"$certmesh" serve --agree --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT" \
    --listen 127.0.0.1 a.test >"$work/serve.out" 2>"$work/serve.err" </dev/null &
server=$!
await grep -q ' is up' "$work/serve.err"
first=$(serial)
like "a certificate is served" "$first" '^serial='
check "it is renewed before its end" await other_serial
check "and says so" await grep '^certmesh: https://a\.test:[0-9]*/ is renewed' "$work/serve.err"
kill -TERM "$server"
wait "$server"
is "ends well" "$?" 0
server=

# ---- nothing that could ever be served
fails "no terms agreed to: no server, exit code 4" 4 'terms of service' \
    cm serve --storage memory: --tls-port "$TLSALPN_PORT" --no-http b.test

tap_done
