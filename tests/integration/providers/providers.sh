#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# dns-01 by providers: hooks as they are written for lego, dehydrated and uacme, acme-dns, Cloudflare.
. "$(dirname "$0")/../issue/common.sh"

lab_up dns LAB_NONCEREJECT=0

# obtain PROVIDER NAME...: one certificate. The lab's DNS server knows no zones.
obtain() {
    local provider=$1
    shift
    cm obtain --san --dns "$provider" --dns-resolver "$DNS_ADDR" --no-dns-check "$@"
}
names_of() { # NAME: the names in the certificate of that and its wildcard, sorted
    openssl x509 -in "$(find "$work/store/certificates" -name "*$1.crt")" -noout -ext subjectAltName |
        tail -n 1 | tr -d ' ' | tr , '\n' | sort | xargs
}
txt() { # what the CA sees there
    dig_py "$1" || true
}
dig_py() {
    python3 - "$DNS_ADDR" "$1" <<'P'
import socket, struct, sys
host, port = sys.argv[1].rsplit(":", 1)
question = b"".join(bytes([len(p)]) + p.encode() for p in sys.argv[2].split(".")) + b"\0\0\x10\0\1"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto(struct.pack(">6H", 7, 256, 1, 0, 0, 0) + question, (host, int(port)))
print(struct.unpack(">6H", s.recv(4096)[:12])[3])
P
}

# ---- hooks

hook() { # hook NAME: stdin becomes a hook that notes what it is called with
    { cat <<H
#!/bin/sh
printf '[%s]' "\$@" >>'$work/$1.log'
echo >>'$work/$1.log'
set_txt() { curl -s -f --max-time 10 -d "{\\"host\\":\\"\$1\\",\\"value\\":\\"\$2\\"}" '$CT_MGMT/set-txt'; }
clear_txt() { curl -s -f --max-time 10 -d "{\\"host\\":\\"\$1\\"}" '$CT_MGMT/clear-txt'; }
H
        cat
    } >"$work/$1.sh"
    chmod 0755 "$work/$1.sh"
}

hook lego <<'H'
case $1 in
present) set_txt "$2" "$3" ;;
cleanup) clear_txt "$2" ;;
*) exit 2 ;;
esac
H
check "a hook made for lego" obtain "exec:$work/lego.sh" l.a.test '*.l.a.test'
is "both names are in" "$(names_of l.a.test)" "DNS:*.l.a.test DNS:l.a.test"
is "two records came" "$(grep -cE '^\[present\]\[_acme-challenge\.l\.a\.test\.\]\[[A-Za-z0-9_-]{43}\]$' "$work/lego.log")" 2
is "and went" "$(grep -c '^\[cleanup\]' "$work/lego.log")" 2
is "nothing is left in the DNS" "$(txt _acme-challenge.l.a.test)" 0

hook raw <<'H'
[ "$2" = -- ] || exit 3
value=$(printf %s "$5" | openssl dgst -sha256 -binary | openssl base64 | tr '+/' '-_' | tr -d '=\n')
case $1 in
present) set_txt "_acme-challenge.$3." "$value" ;;
cleanup) clear_txt "_acme-challenge.$3." ;;
esac
H
check "one made for lego's raw mode" obtain "exec:$work/raw.sh?style=lego-raw" r.a.test

hook dehydrated <<'H'
deploy_challenge() { set_txt "_acme-challenge.$1." "$3"; }
clean_challenge() { clear_txt "_acme-challenge.$1."; }
set -eu
HANDLER=$1; shift; $HANDLER "$@"
H
check "one made for dehydrated" obtain "exec:$work/dehydrated.sh?style=dehydrated" d.a.test '*.d.a.test'
is "it was called as dehydrated does" \
    "$(sed -E 's/\[[A-Za-z0-9_-]{43}\]/[X]/g' "$work/dehydrated.log" | sort | uniq -c | sed 's/^ *//')" \
    "2 [clean_challenge][d.a.test][X][X]
2 [deploy_challenge][d.a.test][X][X]"

hook uacme <<'H'
[ "$#:$2" = 5:dns-01 ] || exit 1
case $1:$3 in
*:no.a.test) echo 'not my name' >&2; exit 1 ;;
begin:*) set_txt "_acme-challenge.$3." "$5" ;;
done:* | failed:*) clear_txt "_acme-challenge.$3." ;;
*) exit 85 ;;
esac
H
check "one made for uacme" obtain "exec:$work/uacme.sh?style=uacme" u.a.test
hook chatty <<'H'
echo "record of $2 is changed"
case $1 in present) set_txt "$2" "$3" ;; cleanup) clear_txt "$2" ;; esac
H
out=$(obtain "exec:$work/chatty.sh" v.a.test --verbose 2>&1)
like "what it writes is logged with --verbose" "$out" \
    "chatty.sh cleanup ended .*record of _acme-challenge.v.a.test. is changed"
out=$(obtain "exec:$work/uacme.sh?style=uacme" no.a.test 2>&1)
like "it may decline" "$out" 'declined the challenge.*not my name'

hook bad <<'H'
echo "no credentials for the API: $API_KEY"
exit 4
H
export API_KEY=s3cr3t-k3y
out=$(obtain "exec:$work/bad.sh?env=API_KEY" b.a.test 2>&1)
like "what a hook says is in the error, without its secret" "$out" \
    'exit status 4: no credentials for the API: \*+'
is "the secret is nowhere" "$(grep -c "$API_KEY" <<<"$out")" 0

hook hangs <<'H'
sleep 300 &
echo $! >>"$0.pids"
sleep 300
H
out=$(obtain "exec:$work/hangs.sh?timeout=3" h.a.test 2>&1)
like "one that hangs is ended" "$out" 'did not end in time'
gone() {
    local p
    while read -r p; do
        ! kill -0 "$p" 2>/dev/null || [ "$(cut -d' ' -f3 "/proc/$p/stat" 2>/dev/null)" = Z ] || return 1
    done <"$work/hangs.sh.pids"
}
check "with its children" wait_for 20 gone

before=$(orders)
chmod 0777 "$work/lego.sh"
out=$(obtain "exec:$work/lego.sh" w.a.test 2>&1)
like "one that anybody can change is not run" "$out" 'chmod go-w'
is "and no order placed for it" "$(orders)" "$before"

# ---- APIs

"$here/tests/integration/providers/api" "$FREE_PORT" "$CT_MGMT" >"$work/api.log" 2>&1 &
pids+=($!)
check "the APIs are there" wait_for 30 curl -s -o /dev/null "http://127.0.0.1:$FREE_PORT/v4/zones?name=x"

accounts=$work/accounts.json
out=$(obtain "acme-dns:http://127.0.0.1:$FREE_PORT?accounts=$accounts&register=yes" ad.a.test 2>&1)
like "acme-dns: an account is made, and the CNAME told" "$out" \
    '_acme-challenge\.ad\.a\.test\. CNAME sub-1\.auth\.lab\.test\.'
is "its file is private" "$(stat -c %a "$accounts")" 600
curl -s -d '{"host":"_acme-challenge.ad.a.test.","target":"sub-1.auth.lab.test."}' "$CT_MGMT/set-cname"
check "acme-dns: with the CNAME it is obtained" \
    obtain "acme-dns:http://127.0.0.1:$FREE_PORT?accounts=$accounts" ad.a.test '*.ad.a.test'

install -m 0600 /dev/null "$work/token"
echo cf-token >"$work/token"
check "cloudflare" obtain "cloudflare:http://127.0.0.1:$FREE_PORT/v4?token-file=$work/token" \
    www.cf.test '*.www.cf.test'
is "two records came and went" "$(grep -cE '^(POST|DELETE) /v4/.* 200$' "$work/api.log")" 4
is "nothing is left there" "$(txt _acme-challenge.www.cf.test)" 0
echo wrong-token >"$work/token"
out=$(obtain "cloudflare:http://127.0.0.1:$FREE_PORT/v4?token-file=$work/token" x.cf.test 2>&1)
like "what Cloudflare says is in the error" "$out" 'HTTP 403: 9109 Invalid access token'
is "the token is not" "$(grep -c wrong-token <<<"$out")" 0
tap_done
