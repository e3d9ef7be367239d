#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The client of cm_acme.h against a real Pebble: client.sh PROGRAM, the example acme-client. TAP on stdout.
# shellcheck disable=SC1091,SC2154
set -u
here=$(cd "$(dirname "$0")" && pwd)
lab=$here/../../util/lab
program=$1
. "$here/../../util/tap.sh"
work=$(mktemp -d) || exit 1
cleanup() {
    [ ! -d "$work/lab" ] || "$lab" down "$work/lab"
    rm -rf "$work"
}
trap cleanup EXIT

rc=0
env LAB_NONCEREJECT=20 LAB_ALTERNATE_ROOTS=2 LAB_OWNER=$$ "$lab" up "$work/lab" >"$work/env" || rc=$?
if [ $rc = 77 ]; then
    echo "1..0 # SKIP Pebble is not installed"
    exit 0
elif [ $rc != 0 ]; then
    echo "Bail out! Pebble did not start"
    exit 1
fi
. "$work/env"

request() { # NAME...: a key and a request
    local names=DNS:$1 n
    for n in "${@:2}"; do names+=,DNS:$n; done
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/leaf.key" -subj / \
        -addext "subjectAltName=$names" -outform DER -out "$work/csr" 2>/dev/null
}
run() {
    "$program" --key "$work/account.key" --csr "$work/csr" --ca "$ACME_DIR" --ca-root "$LAB_CA" \
        --http "$HTTP01_PORT" "$@" >"$work/out" 2>"$work/err"
    rc=$?
}
openssl ecparam -name prime256v1 -genkey -noout -out "$work/account.key"
request a.example.com b.example.com

run a.example.com b.example.com
is "without an account" "$rc" 1
like "the CA's words" "$(cat "$work/err")" '^account: .*accountDoesNotExist'
run --agree a.example.com b.example.com
is "account, order, validation, certificate" "$rc:$(grep -c 'BEGIN CERTIFICATE' "$work/out")" 0:2
like "the account is new" "$(cat "$work/err")" '^account created: valid$'
is "both names were validated" "$(grep -c '^authorized [ab]\.example\.com$' "$work/err")" 2
like "other chains are told" "$(cat "$work/err")" '^chain of [0-9]+ bytes, 2 others$'
check "the chain is good" openssl verify -CAfile "$PEBBLE_ROOT" -untrusted "$work/out" "$work/out"
is "for the key of the request" "$(openssl x509 -in "$work/out" -noout -pubkey)" "$(openssl pkey -in "$work/leaf.key" -pubout)"

request c.example.com
run --revoke c.example.com
is "the account is found by its key; revoked" "$rc:$(grep -E '^(account|revoked)' "$work/err" | paste -sd ' ')" \
    "0:account found: valid revoked"
run d.example.com
is "a request for other names" "$rc" 1
like "is refused in the CA's words" "$(cat "$work/err")" '^certificate: .*(badCSR|unauthorized)'
openssl ecparam -name secp384r1 -genkey -noout -out "$work/second.key"
request g.example.com
run --new-key "$work/second.key" g.example.com
is "another key for the account, which orders with it" "$rc:$(grep -c '^authorized' "$work/err")" 0:1
run g.example.com
is "the old one has no account any more" "$rc" 1
mv "$work/second.key" "$work/account.key"
run g.example.com
is "the new one has it" "$rc:$(sed -n 1p "$work/err")" "0:account found: valid"
openssl genrsa -out "$work/account.key" 2048 2>/dev/null
request e.example.com
run --agree --deactivate e.example.com
is "with an RSA key; the account is given up" "$rc" 0
run e.example.com
is "and is of no use then" "$rc" 1
tap_done
