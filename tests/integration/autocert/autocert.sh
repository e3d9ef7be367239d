#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A server that orders what it is asked for, with autocert's cache: autocert.sh PROGRAM, which is the
# example of that name. Needs Pebble. TAP on stdout.
# shellcheck disable=SC1091,SC2154
set -u
here=$(cd "$(dirname "$0")" && pwd)
lab=$here/../../util/lab
program=$1
. "$here/../../util/tap.sh"
work=$(mktemp -d) || exit 1
pids=()
cleanup() {
    local pid
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null; done
    [ ! -d "$work/lab" ] || "$lab" down "$work/lab"
    rm -rf "$work"
}
trap cleanup EXIT

rc=0
env LAB_NONCEREJECT=5 LAB_RETRY_AFTER=0 LAB_OWNER=$$ "$lab" up "$work/lab" >"$work/env" || rc=$?
if [ $rc = 77 ]; then
    echo "1..0 # SKIP Pebble is not installed"
    exit 0
elif [ $rc != 0 ]; then
    echo "Bail out! Pebble did not start"
    exit 1
fi
. "$work/env"
cache=$work/cache

# begin NAME PORT OPTION... -- NAME...: a server with its output in $work/NAME.*
begin() {
    local name=$1 port=$2 _
    shift 2
    "$program" --cache "$cache" --port "$port" --ca "$ACME_DIR" --ca-root "$LAB_CA" "$@" \
        >"$work/$name.out" 2>"$work/$name.err" &
    pid=$!
    pids+=("$pid")
    for _ in $(seq 300); do
        grep -q '^listening' "$work/$name.out" && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "Bail out! $name does not listen: $(cat "$work/$name.err")"
    exit 1
}

end() { # PID
    kill -TERM "$1"
    wait "$1"
}

# What a client gets: the certificate's name (some versions of the CA have none in its subject), the
# key's size, the alert.
ask() { # PORT NAME OPTION...
    local port=$1 name=(-servername "$2") text
    [ -n "$2" ] || name=(-noservername)
    shift 2
    text=$(timeout 60 openssl s_client -connect "127.0.0.1:$port" "${name[@]}" \
        -CAfile "$PEBBLE_ROOT" "$@" </dev/null 2>&1)
    {
        openssl x509 -noout -ext subjectAltName <<<"$text" 2>/dev/null | sed -n 's/.*DNS://p'
        sed -nE '/SSL alert number/{s/.*SSL alert number ([0-9]+).*/alert \1/p;q}
            s/^Server public key is ([0-9]+) bit/\1/p
            s/^ *(Verify return code: [1-9][0-9]*).*/\1/p' <<<"$text"
    } | sort -u | paste -sd ' '
}
orders() { grep -c 'Added order' "$PEBBLE_LOG"; } # not requests: some are refused for their nonce
tls12rsa=(-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256)

# ---- who does not agree gets nothing
begin refused "$TLSALPN_PORT" a.example.com
is "without agreement there is no certificate" "$(ask "$TLSALPN_PORT" a.example.com)" "alert 112"
like "the program was asked" "$(cat "$work/refused.err")" '^terms of service:'
is "and no account key was kept" "$(ls "$cache" 2>/dev/null)" ""
is "no order was made" "$(orders)" 0
end "$pid"

# ---- tls-alpn-01
begin first "$TLSALPN_PORT" --agree a.example.com c.example.com
is "the first client for a name gets a certificate" "$(ask "$TLSALPN_PORT" a.example.com)" \
    "256 a.example.com"
is "a client without EC gets an RSA one" "$(ask "$TLSALPN_PORT" a.example.com "${tls12rsa[@]}")" \
    "2048 a.example.com"
for i in 1 2 3 4 5 6 7 8; do ask "$TLSALPN_PORT" C.example.COM >"$work/ask.$i" & asked[i]=$!; done
wait "${asked[@]}"
is "eight at once for a new name: all are served" "$(sort -u "$work"/ask.*)" \
    "256 c.example.com"
is "with one order" "$(orders)" 3
is "a name that nobody allows" "$(ask "$TLSALPN_PORT" x.example.com)" "alert 112"
is "a name of one label" "$(ask "$TLSALPN_PORT" localhost)" "alert 112"
is "no name" "$(ask "$TLSALPN_PORT" "")" "alert 112"
is "a challenge that is not open" "$(ask "$TLSALPN_PORT" a.example.com -alpn acme-tls/1)" "alert 112"
is "the cache has autocert's names" "$(ls "$cache" | paste -sd ' ')" \
    "a.example.com a.example.com+rsa acme_account+key c.example.com"
is "for the owner alone" "$(stat -c %a "$cache" "$cache"/* | sort -u | paste -sd ' ')" "600 700"
is "the key comes first" "$(sed -n 1p "$cache/a.example.com")" "-----BEGIN EC PRIVATE KEY-----"
is "then the chain" "$(grep -c 'BEGIN CERTIFICATE' "$cache/a.example.com")" 2
is "the key is the certificate's" "$(openssl pkey -in "$cache/a.example.com" -pubout)" \
    "$(sed -n '/BEGIN CERT/,$p' "$cache/a.example.com" | openssl x509 -noout -pubkey)"
serial=$(sed -n '/BEGIN CERT/,$p' "$cache/a.example.com" | openssl x509 -noout -serial)

# ---- answers to challenges of others that share the cache
mkdir "$work/other"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=token \
    -addext subjectAltName=DNS:a.example.com -keyout "$work/other/k" -out "$work/other/c" 2>/dev/null
cat "$work/other/k" "$work/other/c" >"$cache/a.example.com+token"
is "an open challenge in the cache is answered" "$(timeout 60 openssl s_client -connect "127.0.0.1:$TLSALPN_PORT" \
    -servername a.example.com -alpn acme-tls/1 </dev/null 2>/dev/null | openssl x509 -noout -serial)" \
    "$(openssl x509 -noout -serial -in "$work/other/c")"
is "everyone else is served as before" "$(timeout 60 openssl s_client -connect "127.0.0.1:$TLSALPN_PORT" \
    -servername a.example.com </dev/null 2>/dev/null | openssl x509 -noout -serial)" "$serial"
rm "$cache/a.example.com+token"
end "$pid"
is "ends when asked to" $? 0

# ---- the cache is all that is needed
before=$(orders)
begin again "$TLSALPN_PORT" a.example.com
is "started again: served from the cache" "$(ask "$TLSALPN_PORT" a.example.com)" \
    "256 a.example.com"
is "RSA, too" "$(ask "$TLSALPN_PORT" a.example.com "${tls12rsa[@]}")" "2048 a.example.com"
is "a name in the cache is served though it is not on the list" "$(ask "$TLSALPN_PORT" c.example.com)" \
    "256 c.example.com"
is "nothing was ordered" "$(orders)" "$before"
end "$pid"

# ---- what is of no use counts as missing
printf 'damaged' >"$cache/c.example.com"
cat "$cache/a.example.com" >"$cache/d.example.com"
begin damaged "$TLSALPN_PORT" c.example.com d.example.com
is "damaged: ordered anew, for the account in the cache" "$(ask "$TLSALPN_PORT" c.example.com)" \
    "256 c.example.com"
is "a blob for another name: ordered anew" "$(ask "$TLSALPN_PORT" d.example.com)" \
    "256 d.example.com"
like "the log says so" "$(cat "$work/damaged.err")" "autocert_blob: .*'c.example.com'"
is "nobody was asked about terms" "$(grep -c '^terms' "$work/damaged.err")" 0
end "$pid"

# ---- http-01 on the plain port, and what else comes there
mv "$cache/acme_account+key" "$cache/acme_account.key"
begin http "$FREE_PORT" --agree --http "$HTTP01_PORT" e.example.com
is "with http-01 alone" "$(ask "$FREE_PORT" e.example.com)" "256 e.example.com"
is "the key of old versions is used" "$(grep -c account_created "$work/http.err")" 0
plain() { curl -s -o "$work/body" -w '%{http_code} %{redirect_url}' --max-time 30 "$@"; }
url=http://127.0.0.1:$HTTP01_PORT
is "a redirect" "$(plain -H "Host: e.example.com:$HTTP01_PORT" "$url/x?y=1")" "302 https://e.example.com/x?y=1"
is "not for a POST" "$(plain -d x "$url/")" "400 "
is "a Host that is none" "$(plain -H 'Host: a..b' "$url/")" "400 "
well=$url/.well-known/acme-challenge
is "a token that nobody knows" "$(plain -H 'Host: e.example.com' "$well/abc")" "404 "
is "a host that nobody allows" "$(plain -H 'Host: x.example.com' "$well/abc")" "403 "
printf 'abc.thumb' >"$cache/abc+http-01"
is "a token in the cache is answered" "$(plain -H 'Host: e.example.com' "$well/abc") $(cat "$work/body")" "200  abc.thumb"
printf 'secret' >"$cache/abd+http-01"
is "what is no answer is not sent" "$(plain -H 'Host: e.example.com' "$well/abd")" "404 "
is "nor is another file" "$(plain --path-as-is -H 'Host: e.example.com' "$well/../a.example.com")" "404 "
rm "$cache"/ab?+http-01
end "$pid"
is "no challenge is left in the cache" "$(ls "$cache" | grep -c '+token\|+http-01')" 0

# ---- into a storage of certmesh
cm() { env HOME="$work" CERTMESH_CA_ROOT="$LAB_CA" "$CERTMESH" "$@" --ca "$ACME_DIR" --root "$work/storage" </dev/null; }
check "the directory is imported" cm storage import --autocert "$cache"
is "the names are there" "$(cm list --json | python3 -c 'import json, sys
print(*sorted({c["name"] for c in json.load(sys.stdin)["certificates"]}))')" "a.example.com c.example.com d.example.com e.example.com"
check "storage check finds nothing wrong" cm storage check
like "the account is found by its key" "$(cm account 2>&1)" 'valid'
check "and orders, without another agreement" cm obtain -q f.example.com --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT"
is "no account was made since" "$(grep -c 'There are now [0-9]* accounts' "$PEBBLE_LOG")" 1
tap_done
