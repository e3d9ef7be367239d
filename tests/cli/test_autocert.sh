#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What programs with Go's autocert have kept in a directory is taken over, and served.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

ca=https://127.0.0.1:1/dir
dir=$work/dir
mkdir "$dir"
blob() { # FILE NAME DAYS KEY...: as autocert writes it: the key, then the chain
    local file=$1 name=$2 days=$3
    shift 3
    openssl req -x509 -newkey "$@" -nodes -days "$days" -subj / -addext "subjectAltName=critical,DNS:$name" \
        -keyout "$work/k" -out "$work/c" 2>/dev/null
    cat "$work/k" "$work/c" >"$dir/$file"
}
ec=(ec -pkeyopt ec_paramgen_curve:P-256)
blob ec.example.com ec.example.com 60 "${ec[@]}"
blob ec.example.com+rsa ec.example.com 60 rsa:2048
blob rsa.example.com+rsa rsa.example.com 60 rsa:2048
blob mixed.example.com mixed.example.com 60 rsa:2048
blob other.example.com elsewhere.example.com 60 "${ec[@]}"
blob open.example.com+token open.example.com 60 "${ec[@]}"
blob swapped.example.com swapped.example.com 60 "${ec[@]}"
cat "$work/c" "$work/k" >"$dir/swapped.example.com"
# The other forms of a key that there are: SEC 1 and PKCS #1.
blob sec1.example.com sec1.example.com 60 "${ec[@]}"
{ openssl pkey -in "$work/k" -traditional; cat "$work/c"; } >"$dir/sec1.example.com"
blob p1.example.com+rsa p1.example.com 60 rsa:2048
{ openssl pkey -in "$work/k" -traditional; cat "$work/c"; } >"$dir/p1.example.com+rsa"
printf 'abc.def' >"$dir/abc+http-01"
openssl ecparam -name prime256v1 -genkey -noout >"$dir/acme_account+key"
cp "$dir/acme_account+key" "$dir/acme_account.key"
printf 'x' >"$dir/what is this"
printf 'x' >"$dir/.hidden"
before=$(cd "$dir" && sha256sum -- * .hidden)

import() { run storage import --autocert "$dir" --ca "$ca" --root "$work/s" "$@"; }
import --dry-run
is "--dry-run" "$rc:$(tail -n 1 <<<"$out")" \
    "0:would store 4 certificates and 1 account keys; 0 kept as they were, 8 files left out"
is "--dry-run stores nothing" "$(cm storage ls --root "$work/s")" ""
import --json
is "what is of use is stored" "$rc:$(json '[d[n] for n in ("n_certificates", "n_accounts", "n_kept", "n_left")]')" \
    "0:[4, 1, 0, 8]"
is "each file has its reason" "$(json '({f["file"] for f in d["files"] if f["what"] == "left" and f["why"]} ==
    {"ec.example.com+rsa", "mixed.example.com", "other.example.com", "open.example.com+token", "swapped.example.com",
     "abc+http-01", "acme_account.key", "what is this"})')" True
is "the certificates" "$(cm list --json --root "$work/s" | python3 -c 'import json, sys
print(*sorted((c["name"] + ":" + c["key_type"]) for c in json.load(sys.stdin)["certificates"]))')" \
    "ec.example.com:p256 p1.example.com:rsa2048 rsa.example.com:rsa2048 sec1.example.com:p256"
check "storage check finds nothing wrong" cm storage check --root "$work/s"
like "the account is that of --ca" "$(cm storage ls -r acme --root "$work/s")" '^acme/127\.0\.0\.1-1-dir/users/default/default\.key$'
is "and its key is the same" "$(openssl pkey -in "$work/s/acme/127.0.0.1-1-dir/users/default/default.key" -pubout)" \
    "$(openssl pkey -in "$dir/acme_account+key" -pubout)"
import
is "once more: all is kept" "$rc:$(tail -n 1 <<<"$out")" \
    "0:stored 0 certificates and 0 account keys; 5 kept as they were, 8 files left out"
blob ec.example.com ec.example.com 10 "${ec[@]}"
import
like "what ends earlier is not taken" "$out" '^stored 0 certificates'
blob ec.example.com ec.example.com 80 "${ec[@]}"
import
like "what lasts longer is" "$out" '^stored 1 certificates'
cp "$work/c" "$work/ec.pem"
import --email Ops@example.com
like "--email: another account" "$out" '^stored 0 certificates and 1 account keys'

rm "$dir/ec.example.com"
import
is "without an EC one the RSA one counts" "$(tail -n 1 <<<"$out")" \
    "stored 0 certificates and 0 account keys; 5 kept as they were, 7 files left out"
printf 'x' >"$dir/ec.example.com"
is "the directory is as it was" "$(cd "$dir" && sha256sum -- * .hidden | grep -v ' ec.example.com$')" \
    "$(grep -v ' ec.example.com$' <<<"$before")"

fails "a directory that is not there" 7 'No such file' cm storage import --autocert "$work/nope" --root "$work/s"
fails "an archive, too" 2 'not both' cm storage import --autocert "$dir" x.tar --root "$work/s"
fails "another word" 2 'does not belong to ls' cm storage ls --autocert "$dir" --root "$work/s"
fails "the local CA" 2 'ACME CA' cm storage import --autocert "$dir" --ca internal --root "$work/s"

# ---- served, without a word to the CA
tls=$(free_port)
"$certmesh" serve ec.example.com rsa.example.com --ca "$ca" --root "$work/s" --no-http --no-ari --no-ocsp --no-crl \
    --tls-port "$tls" >"$work/serve.log" 2>&1 </dev/null &
server=$!
served() { # NAME: the certificate's fingerprint
    timeout 30 openssl s_client -connect "127.0.0.1:$tls" -servername "$1" </dev/null 2>/dev/null |
        openssl x509 -noout -fingerprint 2>/dev/null
}
answers() { [ -n "$(served ec.example.com)" ]; }
await answers
is "what was imported is served" "$(served ec.example.com)" "$(openssl x509 -noout -fingerprint -in "$work/ec.pem")"
is "RSA, too" "$(served rsa.example.com)" \
    "$(sed -n '/BEGIN CERT/,$p' "$dir/rsa.example.com+rsa" | openssl x509 -noout -fingerprint)"
kill -TERM "$server"
wait "$server"
is "ends well" $? 0
server=
tap_done
