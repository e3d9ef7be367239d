#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Where keys are and are not: site key, account key, the key of an external account binding, keys of
# session tickets. Not in what is printed or logged at any level, not in arguments and environment;
# while serving, only in the places that are counted here; after a program gave its config back,
# nowhere in its memory, freed or not. The memory is read whole, through /proc, as no core dump would
# have it.
. "$(dirname "$0")/../common.sh"

mac=zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W # the lab's, of kid-1

as_root() { # who may read the memory of a process that is not dumpable
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

vars=$(LAB_OWNER=$$ LAB_EAB=true LAB_RETRY_AFTER=0 "$root/tests/util/lab" up "$work/lab") || {
    report 1 "no lab: $vars"
    finish
}
at_exit "$root/tests/util/lab" down "$work/lab"
eval "$vars"

end() {
    kill "$1" 2>/dev/null
}

wait_for() { # COMMAND...
    local i
    for ((i = 0; i < 150; i++)); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    return 1
}

secrets() { # STORE: what to look for, from now on; copies, as the keys change and go
    local kind key copy
    for kind in account:acme/*/users/*/*.key site:certificates/*/*/*.key; do
        for key in "$1"/${kind#*:}; do
            copy=$work/key.$((++copies_kept))
            cp "$key" "$copy" && secret+=("${kind%%:*}=$copy")
            report $? "there are no keys in $1"
        done
    done
}
tickets() { # STORE: the keys of session tickets, too
    local key
    for key in $(awk '/^key/ { print $5 }' "$1/certmesh/tickets"); do
        secret+=("ticket=text:$key")
    done
    [ -n "${key-}" ]
    report $? "there are no keys of session tickets in $1"
}
copies_kept=0
secret=("eab=text:$mac")

look() { # PID|FILE...
    as_root "$here/find_secrets.py" "$@" -- "${secret[@]}" 2>>"$work/looked"
}

ask() { # a handshake, so that the key is used
    curl -s --max-time 5 --cacert "$PEBBLE_ROOT" --resolve "a.test:$TLSALPN_PORT:127.0.0.1" \
        "https://a.test:$TLSALPN_PORT/" -o /dev/null
}

# ---- the command: what it says at its loudest, and what others can see of it
fresh_storage
cm() {
    CERTMESH_EAB_KEY=$mac "$CERTMESH" "$@" --storage "file://$work/cmd" --ca "$ACME_DIR" \
        --ca-root "$LAB_CA" --agree --eab-kid kid-1 --verbose
}
listen=(--listen 127.0.0.1 --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT")
mkdir -m 700 "$work/cmd"
cm account register >"$work/said.account" 2>&1
report $? "account: $(tail -n 3 "$work/said.account")"
cm obtain "${listen[@]}" a.test >"$work/said.obtain" 2>&1
report $? "obtain: $(tail -n 3 "$work/said.obtain")"
secrets "$work/cmd"
cm renew "${listen[@]}" --force --log-json a.test >"$work/said.renew" 2>&1
report $? "renew: $(tail -n 3 "$work/said.renew")"
secrets "$work/cmd"
# errors: nobody there, a key that is none, a key that fits nothing
cm obtain "${listen[@]}" --ca https://127.0.0.1:9/dir b.test >"$work/said.net" 2>&1
cm account register --storage memory: --eab-alg HS999 >"$work/said.alg" 2>&1
sed -i 's/^\(.....\)/\1!/' "$work/cmd"/certificates/*/a.test/a.test.key
cm renew "${listen[@]}" --force a.test >"$work/said.broken" 2>&1
sed -i 's/^\(.....\)!/\1/' "$work/cmd"/certificates/*/a.test/a.test.key
CERTMESH_EAB_KEY=$mac "$CERTMESH" serve "${listen[@]}" --storage "file://$work/cmd" --ca "$ACME_DIR" \
    --ca-root "$LAB_CA" --agree --eab-kid kid-1 --verbose a.test >"$work/said.serve" 2>&1 &
server=$!
at_exit end "$server"
wait_for ask
report $? "serve does not serve: $(tail -n 3 "$work/said.serve")"
tickets "$work/cmd"
as_root cat "/proc/$server/cmdline" "/proc/$server/environ" >"$work/said.proc"
grep -q kid-1 "$work/said.proc" && grep -q PATH= "$work/said.proc"
report $? "neither arguments nor environment of serve could be read"
kill "$server"
wait "$server"
report $? "serve ended with $?"
cm revoke a.test --yes >"$work/said.revoke" 2>&1
report $? "revoke: $(tail -n 3 "$work/said.revoke")"
found=$(look "$work"/said.*)
report $? "a secret is printed, or seen from outside: $found"
[ -z "$(find "$work/cmd" -type f -perm /077)" ]
report $? "others may read $(find "$work/cmd" -type f -perm /077 | head -n 3)"
[ "$(cat "$work"/said.* | wc -c)" -ge 5000 ] && [ ${#secret[@]} -ge 5 ]
report $? 'there was too little to look for, or to look through'
echo "output, logs, arguments, environment: $(cat "$work"/said.* | wc -c) bytes without a secret"
# It must be seen where it is.
cat "$work"/cmd/acme/*/users/*/*.key >"$work/planted"
echo "$mac" >>"$work/planted"
found=$(look "$work/planted")
[[ $? = 1 && $found == *account*base64* && $found == *eab*text* ]]
report $? "negative control: a planted key and MAC were not seen: $found"

# ---- no core of the command
"$CERTMESH" serve --internal --storage memory: "${listen[@]}" localhost >/dev/null 2>&1 &
server=$!
at_exit end "$server"
wait_for curl -sk --max-time 2 "https://localhost:$TLSALPN_PORT/"
grep -q '^Max core file size *0 ' "/proc/$server/limits"
report $? "serve may write a core: $(grep core "/proc/$server/limits")"
kill "$server"
wait "$server"
strace -qq -o "$work/prctl" -e trace=prctl "$CERTMESH" obtain --internal --storage memory: x.test \
    >/dev/null 2>&1
grep -q 'PR_SET_DUMPABLE, SUID_DUMP_DISABLE) *= 0' "$work/prctl"
report $? "the command may be dumped, and read by others of its user: $(cat "$work/prctl")"

# ---- a program: while it serves, and after it gave everything back
lib=$(dirname "$(dirname "$CERTMESH")")/lib
gcc -O1 -Wall -I"$root/lib/api" "$here/secret_holder.c" -o "$work/holder" -L"$lib" -lcertmesh \
    -lgnutls -lpthread -Wl,-rpath,"$lib" 2>"$work/cc"
report $? "the program does not build: $(cat "$work/cc")"

own_pair() { # KEY-TYPE: as DER, in $work/own.KEY-TYPE.{crt,der}; the key also as PEM
    local as=(ec -pkeyopt ec_paramgen_curve:P-256) own=$work/own.$1
    [ "$1" = p256 ] || as=("${1%%[0-9]*}:${1#rsa}")
    openssl req -x509 -nodes -newkey "${as[@]}" -keyout "$own.key" -outform DER -out "$own.crt" \
        -subj /CN=own.test -addext subjectAltName=DNS:own.test 2>"$work/openssl" &&
        openssl pkey -in "$own.key" -traditional -outform DER -out "$own.der" 2>>"$work/openssl"
    report $? "$1: openssl: $(cat "$work/openssl")"
}

holder() { # KEY-TYPE MAX-COPIES: bytes of the key there may be while serving
    local type=$1 max=$2 store=$work/holder.$1 pid found copies hex
    mkdir -m 700 "$store"
    own_pair "$type"
    rm -f "$work/in"
    mkfifo "$work/in"
    EAB_MAC=$mac "$work/holder" "file://$store" "$ACME_DIR" "$LAB_CA" "$HTTP01_PORT" \
        "$TLSALPN_PORT" "$type" "$work/own.$type.crt" "$work/own.$type.der" <"$work/in" >"$work/held" 2>"$work/held.log" &
    pid=$!
    at_exit end "$pid"
    exec 8>"$work/in"
    wait_for ask && ask && ask
    report $? "$type: the program does not serve: $(tail -n 3 "$work/held.log")"
    secret=("eab=text:$mac" "own=$work/own.$type.key")
    secrets "$store"
    tickets "$store"
    found=$(look "$pid")
    # Two halves of a number are two hits.
    copies=$(awk '/^site.*(bytes|reversed)/ { n[$1] += $3 }
        END { for (k in n) if (n[k] > m) m = n[k]; print int((m + 1) / 2) }' <<<"$found")
    [ "$copies" -ge 1 ] && [ "$copies" -le "$max" ]
    report $? "$type: $copies copies of the site key while serving, at most $max are known: $found"
    grep -q '^ticket.*bytes' <<<"$found"
    report $? "$type: the keys of session tickets are not there while it serves: $found"
    grep -q '^own.*bytes' <<<"$found"
    report $? "$type: the program's own key is not there while it serves: $found"
    ! grep -Eq 'hex|base64' <<<"$found"
    report $? "$type: text of a key while serving: $found"
    echo >&8
    wait_for grep -q closed "$work/held"
    report $? "$type: the program does not end: $(tail -n 3 "$work/held.log")"
    found=$(look "$pid")
    report $? "$type: after everything was given back there is: $found"
    found=$(look "$work/held.log")
    report $? "$type: in the log of the program: $found"
    echo "$type: $copies copies of the site key while serving, none of any key after close"
    if [ "$type" = p256 ]; then # one in freed memory has to be seen
        hex=$(openssl pkey -in "$(echo "$store"/certificates/*/*/*.key)" -noout -text |
            awk '/^priv:/ { f = 1; next } /^pub:/ { f = 0 } f' | tr -d ' :\n')
        echo "$hex" >&8
        wait_for grep -q planted "$work/held"
        found=$(look "$pid")
        [[ $found == *site.priv* ]]
        report $? "negative control: the planted key ($hex) was not seen: $found"
    fi
    exec 8>&-
    wait "$pid"
    report $? "$type: the program ended with $?"
}

# Three: what was read from storage, and of the handle of GnuTLS its DER and its number.
holder p256 3
holder rsa2048 3
finish
