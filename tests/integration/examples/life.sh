#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The example about the life of certificates, from its start to its end: life.sh PROGRAM
here=$(cd "$(dirname "$0")/../.." && pwd)
. "$here/util/tap.sh"

program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run() {
    "$program" --root "$work/root" "$@" >"$work/out" 2>"$work/err"
    rc=$?
}
has() { # DESCRIPTION PATTERN
    like "$1" "$(cat "$work/out")" "$2"
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN=own.test \
    -addext subjectAltName=DNS:own.test -keyout "$work/own.key" -out "$work/own.crt" 2>/dev/null
run --cert "$work/own.crt" --key "$work/own.key" a.test b.test
is "it ends well" "$rc:$(cat "$work/err")" "0:"
has "the program is told of what begins" '^event cert_obtaining: a\.test$'
has "and of what came of it" '^event cert_obtained: b\.test$'
has "keys come from the key service" '^key for a\.test$'
has "the status of each name" '^status b\.test: good, next '
has "the reasons" '^why So it is not due'
has "metrics of what was obtained" '^certmesh_certificate_not_after_seconds\{name="a\.test",issuer="certmesh-local"'
has "and of files" '^certmesh_certificate_managed\{name="own\.test",.*\} 0$'
has "what was done" '^certmesh_renewals_total\{outcome="obtained",class=""\} 2$'
run a.test b.test
is "started again, storage has it all" "$rc:$(grep -c '^key for' "$work/out")" "0:0"
LIFE_REFUSES=c.test run c.test
is "a veto is an error" "$rc:$(cat "$work/err")" "1:life: c.test: certificate for 'c.test': c.test is not ours"
is "and nothing was ordered" "$(grep -c '^key for' "$work/out")" 0
tap_done
