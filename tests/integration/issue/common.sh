# SPDX-License-Identifier: Apache-2.0
# What the issuing tests share: a Pebble of their own, a scratch folder, the command.
# shellcheck shell=bash

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
. "$here/tests/util/tap.sh"
: "${CERTMESH:?path of the certmesh command}"
"$CERTMESH" version >/dev/null || { echo "Bail out! $CERTMESH does not run"; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/cm-issue.XXXXXX")
labs=()
pids=()

lab_up() { # lab_up NAME [LAB_VAR=value...]: a lab of its own, its variables in this shell
    local name=$1 vars rc
    shift
    vars=$(env LAB_OWNER=$$ "$@" "$here/tests/util/lab" up "$work/$name")
    rc=$?
    if [ "$rc" != 0 ]; then
        echo "Bail out! lab did not start (exit $rc)"
        exit "$rc"
    fi
    labs+=("$work/$name")
    eval "$vars"
}

clean_up() {
    local p l
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
    for p in "${pids[@]}"; do wait "$p" 2>/dev/null; done
    for l in "${labs[@]}"; do "$here/tests/util/lab" down "$l" >/dev/null 2>&1; done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 143' TERM INT

# cm SUBCOMMAND...: the command against this lab's CA. STORE names the storage.
# In the background with cm_exec=exec: else a kill meets the shell around it, and it stays.
cm() {
    local more=(--ca "$ACME_DIR" --ca-root "$LAB_CA" --email "${EMAIL-ops@a.test}")
    case $1 in
    obtain | renew | serve)
        more+=(--agree --listen 127.0.0.1 --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT") ;;
    account) more+=(--agree) ;;
    show | list | clean) more=() ;;
    esac
    ${cm_exec-} "$CERTMESH" "$@" --storage "file://$work/${STORE:-store}" "${more[@]}"
}

stored() { # stored NAME SUFFIX: path of a stored file
    find "$work/${STORE:-store}/certificates" -path "*/$1/$1.$2" 2>/dev/null | head -n 1
}

# pair_is_good NAME: key fits the leaf, the chain verifies, the name matches.
pair_is_good() {
    local crt key root=${2:-$PEBBLE_ROOT}
    crt=$(stored "$1" crt)
    key=$(stored "$1" key)
    [ -n "$crt" ] && [ -n "$key" ] || { echo "no files for $1"; return 1; }
    [ "$(openssl x509 -in "$crt" -noout -pubkey)" = "$(openssl pkey -in "$key" -pubout)" ] ||
        { echo "key does not fit"; return 1; }
    openssl verify -CAfile "$root" -untrusted "$crt" "$crt" || return 1
    case $1 in
    *[0-9].[0-9]*) openssl verify -CAfile "$root" -untrusted "$crt" -verify_ip "$1" "$crt" ;;
    *) openssl verify -CAfile "$root" -untrusted "$crt" -verify_hostname "$1" "$crt" ;;
    esac
}

orders() { # how many orders the CA made; a badNonce retry is no order
    grep -c 'Added order' "$PEBBLE_LOG"
}
requests() {
    "$here/tests/util/lab" requests "$LAB_DIR"
}

wait_for() { # wait_for SECONDS COMMAND...: until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}
