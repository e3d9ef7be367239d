#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# `./dev demo`: certmesh gets two certificates from a CA on this machine and serves them, and this
# script looks at the result as a client would. Nothing leaves the machine.
#
#   demo.sh [--once]   --once: end after the checks, with exit code 0 if all passed
#
# Wants pebble, curl and openssl, and a built command (build/cmd/certmesh, or $CERTMESH).
# shellcheck disable=SC2317 # functions called through expect and trap
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
certmesh=${CERTMESH:-$here/../../build/cmd/certmesh}
once=false
case ${1:-} in
--once) once=true ;;
'') ;;
*)
    echo "usage: demo.sh [--once]" >&2
    exit 2
    ;;
esac
if [ ! -x "$certmesh" ]; then
    echo "demo: there is no $certmesh; run ./dev build first" >&2
    exit 1
fi
certmesh=$(cd "$(dirname "$certmesh")" && pwd)/$(basename "$certmesh")

bold='' green='' red='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\033[1m' green=$'\033[32m' red=$'\033[31m' plain=$'\033[0m'
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/certmesh-demo.XXXXXX")
server=
failed=0

cleanup() {
    trap '' INT TERM
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null
        wait "$server" 2>/dev/null
    fi
    [ ! -d "$work/lab" ] || "$here/lab" down "$work/lab"
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step=0
step() {
    step=$((step + 1))
    printf '\n%s%d. %s%s\n' "$bold" "$step" "$*" "$plain"
}

show() { # the command as a person would type it, then do it
    echo "   \$ certmesh $*"
    "$certmesh" "$@" 2>&1 | sed 's/^/   /'
    return "${PIPESTATUS[0]}"
}

give_up() {
    printf '%s%s%s\n' "$red" "$*" "$plain" >&2
    [ ! -s "$work/serve.log" ] || sed 's/^/   | /' "$work/serve.log" >&2
    exit 1
}

expect() { # WHAT COMMAND...
    local what=$1 out
    shift
    if out=$("$@" 2>&1); then
        printf '   %sok%s    %s\n' "$green" "$plain" "$what"
    else
        printf '   %swrong%s %s\n' "$red" "$plain" "$what"
        head -n 12 <<<"$out" | sed 's/^/         /'
        failed=$((failed + 1))
    fi
}

# ---- what a client sees

fetch() { # NAME: the page, with the CA's root as the only trust
    curl -sS --max-time 15 --cacert "$PEBBLE_ROOT" --resolve "$1:$TLSALPN_PORT:127.0.0.1" \
        "https://$1:$TLSALPN_PORT/"
}
serves() { # NAME
    fetch "$1" | grep -F "$1"
}
redirects() { # NAME
    curl -sS --max-time 15 -o /dev/null -w '%{http_code} %{redirect_url}\n' \
        --resolve "$1:$HTTP01_PORT:127.0.0.1" "http://$1:$HTTP01_PORT/some/page" |
        grep -E "^30[178] https://$1:$TLSALPN_PORT/some/page\$"
}
handshakes() { # NAME VERSION
    openssl s_client -connect "127.0.0.1:$TLSALPN_PORT" -servername "$1" "-$2" \
        -CAfile "$PEBBLE_ROOT" -verify_return_error -verify_hostname "$1" </dev/null 2>&1 |
        grep 'Verify return code: 0 (ok)'
}
refuses() { # NAME
    local out # openssl fails here, as it should
    out=$(openssl s_client -connect "127.0.0.1:$TLSALPN_PORT" -servername "$1" </dev/null 2>&1)
    grep -i 'unrecognized name' <<<"$out" && ! grep 'BEGIN CERTIFICATE' <<<"$out"
}
all_up() {
    local _
    for _ in $(seq 300); do
        grep -qs 'all 2 names are up' "$work/serve.log" && return 0
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

# ---- the demo

step "Start a CA on this machine: Pebble, the test CA of the Let's Encrypt project"
env_lines=$(LAB_OWNER=$$ "$here/lab" up "$work/lab") || give_up "Pebble did not start."
eval "$env_lines"
echo "   It answers at $ACME_DIR. Every name leads to 127.0.0.1 for it."

export CERTMESH_STORAGE=file:$work/store CERTMESH_CA=$ACME_DIR CERTMESH_CA_ROOT=$LAB_CA
ports=(--http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT" --listen 127.0.0.1)

step "Get a certificate for hello.demo.test; the CA looks at port 80 (here $HTTP01_PORT), http-01"
show obtain --agree --challenge http-01 "${ports[@]}" hello.demo.test ||
    give_up "That did not work."

step "Serve it, and get one for world.demo.test on the way; the CA looks at port 443 (here $TLSALPN_PORT), tls-alpn-01"
serve=(serve --agree --challenge tls-alpn-01 "${ports[@]}" hello.demo.test world.demo.test)
echo "   \$ certmesh ${serve[*]}"
"$certmesh" "${serve[@]}" >"$work/serve.log" 2>&1 &
server=$!
all_up || give_up "The server did not come up:"
sed 's/^/   /' "$work/serve.log"

step "Look at it as a client would"
for name in hello.demo.test world.demo.test; do
    expect "https://$name: the page, over a connection curl trusts" serves "$name"
    expect "http://$name: redirected to https" redirects "$name"
    expect "$name: openssl verifies the chain with TLS 1.3" handshakes "$name" tls1_3
    expect "$name: openssl verifies the chain with TLS 1.2" handshakes "$name" tls1_2
done
expect "nobody.demo.test: refused, no other site's certificate is shown" refuses nobody.demo.test

step "What is in storage now"
show list || failed=$((failed + 1))

echo
if [ "$failed" = 0 ]; then
    printf '%s%s%s\n' "$green" "All of it worked: two names went from the CA to a trusted connection." "$plain"
else
    printf '%s%s%s\n' "$red" "$failed of the checks failed; see above." "$plain"
fi
if $once; then
    exit $((failed > 0))
fi

cat <<X

The server stays up until Ctrl-C. In another terminal you may try:

   curl --cacert $PEBBLE_ROOT \\
        --resolve hello.demo.test:$TLSALPN_PORT:127.0.0.1 https://hello.demo.test:$TLSALPN_PORT/

   export CERTMESH_STORAGE=$CERTMESH_STORAGE CERTMESH_CA=$ACME_DIR CERTMESH_CA_ROOT=$LAB_CA
   $certmesh show hello.demo.test
   $certmesh list --json
   $certmesh renew --force --challenge http-01 ${ports[*]} hello.demo.test
      (this server has the port, and answers the CA for that process too)

Without any CA:   certmesh serve --internal --tls-port 8443 --no-http localhost
With Let's Encrypt, on a host that its name leads to:
                  certmesh serve --agree --email you@example.com www.example.com
X
wait "$server"
server=
exit $((failed > 0))
