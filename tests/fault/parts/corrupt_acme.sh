#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Damage to what an ACME CA is spoken to with: account, its key, a registration or an order under
# way, a challenge. An account whose key is whole is found again by it, one without key is replaced;
# nothing of this keeps a name from its certificate, and no order is wasted.
. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/../damage.sh"

lab=$root/tests/util/lab
vars=$(LAB_OWNER=$$ LAB_NONCEREJECT=0 CM_REQUIRE=1 "$lab" up "$work/lab") || {
    echo "corrupt_acme: the lab did not start" >&2
    exit 1
}
at_exit "$lab" down "$work/lab"
eval "$vars"
limit=60

acme() { # STORE SUBCOMMAND...: by the lab's CA
    local more=(--ca "$ACME_DIR" --ca-root "$LAB_CA" --email ops@a.test --agree)
    case $2 in
    obtain | renew)
        more+=(--listen 127.0.0.1 --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT") ;;
    revoke) more=("${more[@]::6}") ;;
    esac
    cm "$@" "${more[@]}"
}

orders() {
    grep -c 'Added order' "$PEBBLE_LOG"
}

# The stored pair of NAME fits, by a stranger's eye.
fits() { # STORE NAME
    local crt key
    crt=$(find "$1/certificates" -name "$2.crt" | head -n 1)
    key=$(find "$1/certificates" -name "$2.key" | head -n 1)
    # openssl takes many minutes for a file with megabytes behind its certificate
    [ -n "$crt" ] && [ -n "$key" ] && [ "$(stat -c %s "$crt")" -lt 1000000 ] &&
        [ "$(openssl x509 -in "$crt" -noout -pubkey 2>/dev/null)" = \
            "$(openssl pkey -in "$key" -pubout 2>/dev/null)" ] &&
        openssl verify -CAfile "$PEBBLE_ROOT" -untrusted "$crt" -verify_hostname "$2" "$crt" \
            >/dev/null 2>&1
}

url_of() { # FILE: the account's URL
    sed -n 's/.*"location": *"\([^"]*\)".*/\1/p' "$1" 2>/dev/null | head -n 1
}

base=$work/base other=$work/other
mkdir -m 700 "$base" "$other"
acme "$base" obtain a.test --quiet
report "$rc" "set-up: $(cat "$out")"
acme "$other" account register --quiet
report "$rc" "set-up: $(cat "$out")"
json=$(find "$base/acme" -name '*.json' | head -n 1)
json=${json#"$base/"}
key=${json%.json}.key
[ -f "$base/$json" ] && [ -f "$base/$key" ]
report $? "set-up: no account"
url=$(url_of "$base/$json")
[ -n "$url" ]
report $? "set-up: the account has no URL"

# ------------------------------------------------------------------- account

account() { # FILE KIND
    local file=$1 kind=$2 made now
    case="$file, $kind"
    broken "$base" "$kind" "$file" "$other/$file" - || return 0
    acme "$s" account show
    made=$(orders)
    acme "$s" obtain b.test
    now=$(url_of "$s/$json")
    if [ "$kind" = directory_full ]; then
        [ "$rc" != 0 ] && grep -q "$(basename "$file")" "$out"
        report $? "$case: what lies in the way is not named ($rc): $(cat "$out")"
        return
    fi
    report "$rc" "$case: obtain ends with $rc: $(cat "$out")"
    fits "$s" b.test
    report $? "$case: the pair is not sound"
    [ $(($(orders) - made)) -le 1 ]
    report $? "$case: $(($(orders) - made)) orders for one certificate"
    if [[ $file = *.json ]] && [[ $kind != other* ]]; then
        [ "$now" = "$url" ]
        report $? "$case: the account of the intact key was lost: now '$now': $(cat "$out")"
        cmp -s "$base/$key" "$s/$key"
        report $? "$case: the account's key was thrown away"
    fi
    [ -n "$now" ]
    report $? "$case: no account is stored afterwards"
    # What was stored is of use to the next process.
    acme "$s" account show
    report "$rc" "$case: afterwards 'account show' ends with $rc: $(cat "$out")"
}

began_failed=$failed
for file in "$json" "$key"; do
    pick
    for kind in "${picked[@]}"; do
        account "$file" "$kind"
    done
done
echo "account: $damages damages, $cm_runs commands, $((failed - began_failed)) failures"

# ----------------------------------------------- registration and order under way

# Killed when the CA has been asked and the answer is not stored yet.
interrupted() { # STORE PATTERN COMMAND...: the file below the store that is then there
    local store=$1 pattern=$2 from n found
    shift 2
    from=$work/from
    cp -a "$store" "$from"
    for ((n = 1; n < 60; n++)); do
        rm -rf "$store"
        cp -a "$from" "$store"
        { ASAN_OPTIONS=detect_leaks=0 timeout 60 strace -f -qq -o "$work/strace" \
            -e trace=renameat,renameat2 -e inject=renameat,renameat2:signal=KILL:when=$n \
            "$CERTMESH" "$@" --root "$store" --ca "$ACME_DIR" --ca-root "$LAB_CA" \
            --email ops@a.test --agree >"$out" 2>&1; } 2>/dev/null
        [ $? = 137 ] || break
        found=$(find "$store/certmesh" -type f -path "$pattern" -not -path "*/certmesh/tmp/*" 2>/dev/null | head -n 1)
        if [ -n "$found" ] && [ -z "$(find "$store/certmesh/redo" -type f 2>/dev/null)" ]; then
            rm -rf "$from"
            echo "${found#"$store/"}"
            return
        fi
    done
    rm -rf "$from"
    return 1
}

under_way() { # BASE FILE NAME: each damage, then obtain NAME
    local store=$1 file=$2 name=$3 kind made
    pick
    for kind in "${picked[@]}"; do
        case="$file, $kind"
        broken "$store" "$kind" "$file" "$base/$key" - || continue
        made=$(orders)
        acme "$s" obtain "$name"
        if [ "$kind" = directory_full ]; then
            [ "$rc" != 0 ] && grep -q "$(basename "$file")" "$out"
            report $? "$case: what lies in the way is not named ($rc): $(cat "$out")"
            continue
        fi
        report "$rc" "$case: obtain ends with $rc: $(cat "$out")"
        fits "$s" "$name"
        report $? "$case: the pair is not sound"
        [ $(($(orders) - made)) -le 1 ]
        report $? "$case: $(($(orders) - made)) orders for one certificate"
        if [[ $kind != directory* ]]; then
            [ ! -e "$s/$file" ]
            report $? "$case: it is still there"
        fi
    done
}

began_failed=$failed damages=0 cm_runs=0
mkdir -m 700 "$work/pending"
pending=$(interrupted "$work/pending" '*.pending' account register)
report $? "set-up: no registration was interrupted: $(cat "$out")"
under_way "$work/pending" "$pending" p.test
echo "registration: $damages damages, $((failed - began_failed)) failures"

began_failed=$failed damages=0
cp -a "$base" "$work/journal"
entry=$(interrupted "$work/journal" '*/certmesh/journal/*' obtain j.test --listen 127.0.0.1 \
    --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT")
report $? "set-up: no order was interrupted: $(cat "$out")"
under_way "$work/journal" "$entry" j.test
echo "journal: $damages damages, $((failed - began_failed)) failures"

# ------------------------------------------------------------------ challenge

# As a peer left it. It must not keep the name from a challenge of its own, and nobody answers from
# what does not fit together.
began_failed=$failed damages=0
tokens=$(dirname "$(dirname "$(dirname "$json")")")/challenge_tokens
cp -a "$base" "$work/tokens"
mkdir -p -m 700 "$work/tokens/$tokens"
printf '{"type":"http-01","url":"https://ca.test/1","status":"pending","token":"%s","keyAuthorization":"%s","identifier":{"type":"dns","value":"t.test"}}' \
    tokentokentoken tokentokentoken.thumbthumbthumb >"$work/tokens/$tokens/t.test.json"
chmod 600 "$work/tokens/$tokens/t.test.json"
sed 's/t\.test/u.test/; s/tokentoken/nekotnekot/g' "$work/tokens/$tokens/t.test.json" \
    >"$work/other.token"
pick
for kind in "${picked[@]}"; do
    case="challenge, $kind"
    broken "$work/tokens" "$kind" "$tokens/t.test.json" "$work/other.token" - || continue
    acme "$s" obtain t.test
    if [ "$kind" = directory_full ]; then
        [ "$rc" != 0 ] && grep -q "t.test.json" "$out"
        report $? "$case: what lies in the way is not named ($rc): $(cat "$out")"
        continue
    fi
    report "$rc" "$case: obtain ends with $rc: $(cat "$out")"
    fits "$s" t.test
    report $? "$case: the pair is not sound"
    cm "$s" clean --ca "$ACME_DIR"
    report "$rc" "$case: clean ends with $rc: $(cat "$out")"
done
echo "challenge: $damages damages, $((failed - began_failed)) failures"

# ----------------------------------------------------------------- revocation

# What cannot be read cannot be revoked, and must not vanish for that.
began_failed=$failed damages=0
crt=$(find "$base/certificates" -name a.test.crt)
crt=${crt#"$base/"}
pick
for kind in "${picked[@]}"; do
    case="revoke with a damaged chain, $kind"
    broken "$base" "$kind" "$crt" - - || continue
    [ "$kind" != directory_full ] || continue
    fits "$s" a.test
    sound=$?
    acme "$s" revoke a.test --yes
    if [ "$rc" = 0 ]; then
        # A chain may be damaged above the leaf, where only the CA's root could tell.
        [ "$sound" = 0 ] || [[ $kind = flip_* ]]
        report $? "$case: revoked something that is not sound: $(cat "$out")"
    else
        [ -e "$s/${crt%.crt}.key" ]
        report $? "$case: nothing was revoked, but the key is gone: $(cat "$out")"
        grep -q 'a.test' "$out"
        report $? "$case: nothing is named: $(cat "$out")"
    fi
done
echo "revocation: $damages damages, $((failed - began_failed)) failures"
finish
