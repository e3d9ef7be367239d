#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Every allocation of our own code fails once, in each of 25 scenarios (tests/fault/alloc*.c): no
# crash, no leak, no other error than that there is no memory, no pair lost, and who tries again
# succeeds. What GnuTLS, libcurl and json-c allocate is theirs.
. "$(dirname "$0")/../common.sh"

alloc=$FAULT_TOOLS/alloc
build=$FAULT_TOOLS/../..

# ------------------------------------- nobody allocates but by the seam

allocators() { # FILE...: objects that call the allocator of the C library themselves
    nm -A -u "$@" | grep -E ' U _*(malloc|calloc|realloc|reallocarray|strn?dup|v?asprintf|getline|getdelim|open_memstream|aligned_alloc|posix_memalign)(_chk|@.*)?$' |
        sed 's/.*[/:]\([a-z0-9_]*\.c\.o\):.*/\1/' | sort -u
}

mapfile -t rooms < <(find "$build/lib" "$build/storage" "$build/issuers" -name 'libcm_*.a')
[ ${#rooms[@]} = 11 ]
report $? "alloc: ${#rooms[@]} rooms, not 11: ${rooms[*]}"
[ "$(allocators "${rooms[@]}")" = alloc.c.o ]
report $? "alloc: beside lib/base/alloc.c there allocate: $(allocators "${rooms[@]}" | xargs)"
mapfile -t adapter < <(find "$build/lib/openssl" -name '*.c.o' 2>/dev/null)
if [ ${#adapter[@]} != 0 ]; then
    [ -z "$(allocators "${adapter[@]}")" ]
    report $? "alloc: of the adapter to OpenSSL there allocate: $(allocators "${adapter[@]}" | xargs)"
fi
allocators "$FAULT_TOOLS"/alloc.p/*.o | grep -qx alloc.c.o # it has a malloc() of its own
report $? "negative control: a call of malloc() was not noticed"

# ------------------------------------------------------------ the sweeps

sweep() { # EVERY SCENARIO [CA...]
    local every=$1 scenario=$2 folder=$work/$2
    shift 2
    mkdir -m 700 "$folder"
    "$alloc" "$scenario" "$every" "$folder" "$@" >"$work/out" 2>&1
    report $? "alloc: $scenario: $(tail -n 40 "$work/out")"
    grep "^$scenario: " "$work/out"
    rm -rf "$folder"
}

sweep "$(sample 1 5)" obtain
sweep "$(sample 1 5)" renew
sweep "$(sample 1 8)" ondemand
sweep "$(sample 1 15)" autocert
sweep "$(sample 1 15)" csr
sweep "$(sample 1 5)" source
for scenario in load list status clean; do
    sweep "$(sample 1 3)" $scenario
done
for scenario in gate hook http01 tlsalpn dns-providers rfc2136; do
    sweep 1 $scenario
done

# Keys elsewhere: with a signer, and in a token of SoftHSM's. What that allocates is its own.
sweep "$(sample 1 40)" signer
if command -v softhsm2-util >/dev/null; then
    mkdir -m 700 "$work/tokens"
    export SOFTHSM2_CONF=$work/softhsm.conf
    printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' \
        "$work/tokens" >"$SOFTHSM2_CONF"
    (umask 077 && echo 48151623 >"$work/pin")
    softhsm2-util --init-token --free --label alloc --pin 48151623 --so-pin 12345678 >/dev/null
    report $? "alloc: no token"
    export CM_ALLOC_TOKEN="pkcs11:token=alloc?pin-source=file:$work/pin"
    sweep "$(sample 1 80)" token
else
    [ -z "${CI:-}${CM_REQUIRE:-}" ]
    report $? "alloc: no softhsm2-util"
fi

# Of the adapter's own; a build without OpenSSL has none.
[ ${#adapter[@]} = 0 ] || sweep "$(sample 1 6)" openssl

lab() {
    "$root/tests/util/lab" "$@"
}
vars=$(LAB_OWNER=$$ LAB_RETRY_AFTER=0 LAB_NONCEREJECT=0 lab up "$work/lab")
report $? "alloc: no CA to test against"
at_exit lab down "$work/lab"
eval "$vars"
for scenario in acme-account acme-obtain acme-renew acme-revoke; do
    sweep "$(sample 1 20)" $scenario "$ACME_DIR" "$LAB_CA" "$HTTP01_PORT" "$TLSALPN_PORT"
done

export CM_ALLOC_CT=${CT_MGMT##*:} CM_ALLOC_DNS=$DNS_ADDR
sweep "$(sample 1 20)" acme-dns01 "$ACME_DIR" "$LAB_CA" "$HTTP01_PORT" "$TLSALPN_PORT"

# ZeroSSL's interface, as tests/util/zerossld plays it. Each point takes seconds.
mkdir -m 700 "$work/zerossl.ca"
(umask 077 && echo 0123456789abcdef0123456789abcdef >"$work/zerossl.ca/key")
"$root/tests/util/zerossld" "$work/zerossl.ca" "$HTTP01_PORT" 2>"$work/zerossl.err" &
at_exit kill $!
for _ in $(seq 300); do
    [ -s "$work/zerossl.ca/url" ] && break
    sleep 0.1
done
[ -s "$work/zerossl.ca/url" ]
report $? "alloc: no zerossld: $(cat "$work/zerossl.err")"
sweep "$(sample 2 120)" zerossl "$(cat "$work/zerossl.ca/url")" "$work/zerossl.ca/ca.pem" \
    "$HTTP01_PORT" "$TLSALPN_PORT"

# -------------------------------------------------------- negative controls

mkdir -m 700 "$work/planted"
CM_ALLOC_PLANT=leak "$alloc" http01 1 "$work/planted" >"$work/out" 2>&1
[ $? != 0 ] && grep -q 'LeakSanitizer: detected memory leaks' "$work/out"
report $? "negative control: a leak was not noticed: $(cat "$work/out")"

finish
