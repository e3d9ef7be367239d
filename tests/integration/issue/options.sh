#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a CA can be asked for beyond names, and how it is reached, against a real Pebble: profiles,
# times, the choice among chains, proxies.
. "$(dirname "$0")/common.sh"
unset https_proxy HTTPS_PROXY http_proxy all_proxy ALL_PROXY no_proxy NO_PROXY

lab_up options LAB_NONCEREJECT=0 LAB_AUTHZREUSE=0 LAB_ALTERNATE_ROOTS=1 LAB_CHAIN_LENGTH=2 \
    LAB_PROFILES='"short":{"description":"six days","validityPeriod":518400}'
direct=$ACME_DIR

seconds() { # seconds NAME startdate|enddate
    date -d "$(openssl x509 -in "$(stored "$1" crt)" -noout "-$2" | cut -d= -f2)" +%s
}

# ---- profiles
case " $PEBBLE_FEATURES " in
*' profiles '*)
    check "a profile that the CA has" cm obtain short.a.test --profile short
    is "its certificates are the profile's" \
        "$((($(seconds short.a.test enddate) - $(seconds short.a.test startdate) + 3600) / 86400))" 6
    fails "one that it does not have is told with those that it has" 4 \
        "no certificate profile 'shrot'; there are: .*short" cm obtain x.a.test --profile shrot
    ;;
*)
    fails "a profile is refused where there are none" 4 'has no certificate profiles' \
        cm obtain x.a.test --profile short
    ;;
esac
is "nothing is ordered for it" "$(stored x.a.test crt)" ""

# ---- times
now=$(date +%s)
check "times that are asked for" cm obtain times.a.test --lifetime 10d --backdate 2h
end=$(seconds times.a.test enddate)
begin=$(seconds times.a.test startdate)
check "the end is as asked" test "$((end - now))" -ge 863990 -a "$((end - now))" -le 864600
check "the beginning is as asked" test "$((now - begin))" -ge 6600 -a "$((now - begin))" -le 7210
check "the pair is good" pair_is_good times.a.test

# ---- chains: both have the intermediates' names, the roots differ
cn() { openssl x509 -noout -subject -nameopt multiline,utf8 | sed -n 's/ *commonName *= //p'; }
for n in 0 1; do curl -s -A t --cacert "$LAB_CA" "$PEBBLE_MGMT/roots/$n" >"$work/root$n.pem"; done
root1=$(cn <"$work/root1.pem")
check "a chain by its root" cm obtain root.a.test --preferred-chain "$root1"
check "leads there" pair_is_good root.a.test "$work/root1.pem"
check "a chain by any who signed in it" cm obtain any.a.test --preferred-chain "$root1" --chain any
check "leads there, too" pair_is_good any.a.test "$work/root1.pem"
check "the smallest chain" cm obtain small.a.test --chain smallest
size() { grep -v -e --- "$1" | tr -d '\n' | wc -c; }
check "is no larger than the others" test "$(size "$(stored small.a.test crt)")" -le \
    "$(($(size "$(stored any.a.test crt)") + 64))"

# ---- requests whose keys are elsewhere
STORE=csr
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout "$work/own.key" \
    -subj /CN=ignored -addext 'subjectAltName=DNS:csr1.a.test,DNS:csr2.a.test' \
    -out "$work/own.csr" 2>"$work/openssl.log"
check "a certificate for a request" cm obtain --csr "$work/own.csr" --out "$work/own.pem"
is "is for its key" "$(openssl x509 -in "$work/own.pem" -noout -pubkey)" \
    "$(openssl pkey -in "$work/own.key" -pubout)"
check "and leads to the CA's root" openssl verify -CAfile "$PEBBLE_ROOT" -untrusted "$work/own.pem" \
    -verify_hostname csr2.a.test "$work/own.pem"
is "storage has no key of it" "$(grep -rl 'PRIVATE KEY' "$work/csr" | grep -v /users/)" ""
made=$(orders)
cm obtain --csr "$work/own.csr" >"$work/again.pem" 2>"$work/again.log"
is "run again it is there" "$(cat "$work/again.pem")" "$(cat "$work/own.pem")"
like "and says so" "$(cat "$work/again.log")" '^csr1.a.test,csr2.a.test +already there'
is "nothing is ordered" "$(orders)" "$made"
check "storage is in order" "$CERTMESH" storage check "file:$work/csr"
openssl req -new -key "$work/own.key" -subj /CN=csr3.a.test -out "$work/no.csr"
fails "a request without names is refused" 2 'subjectAltName' cm obtain --csr "$work/no.csr"
fails "what is no request is refused" 1 'certificate request' cm obtain --csr "$work/own.pem"
fails "one that is not there" 2 'No such file' cm obtain --csr "$work/none.csr"

# ---- two pairs for a name
STORE=dual
cm_exec=exec cm serve dual.a.test --also-key-type rsa2048 --no-clean >"$work/dual.log" 2>&1 &
node=$!
pids+=("$node")
served() { # served SIGALGS: what a client that knows only these gets
    openssl s_client -connect "127.0.0.1:$TLSALPN_PORT" -servername dual.a.test -tls1_2 \
        -sigalgs "$1" </dev/null 2>/dev/null | openssl x509 -noout -text | grep 'Public Key Algorithm'
}
both() { served ECDSA+SHA256 | grep -q id-ecPublicKey && served RSA+SHA256 | grep -q rsaEncryption; }
check "each client gets what it can check" wait_for 40 both
is "there are two pairs" "$(find "$work/dual/certificates" -name 'dual.a.test.key' | wc -l)" 2
variant=$(find "$work/dual/certificates" -path '*rsa2048*' -name dual.a.test.crt)
before=$(openssl x509 -in "$variant" -noout -serial)
check "the second is renewed by its name" \
    cm renew dual.a.test --force --key-type rsa2048 --variant rsa2048
check "it is another one" test "$(openssl x509 -in "$variant" -noout -serial)" != "$before"
is "one account is enough" "$(find "$work/dual/acme" -name '*.key' | wc -l)" 1
kill "$node"
wait "$node" 2>/dev/null
is "and ended in good order" "$?" 0
fails "both of a kind make no sense" 2 'the same as --key-type' \
    cm serve x.a.test --also-key-type p256

# ---- http-01 without tokens: a web server that was told the thumbprint answers
STORE=store
thumbprint=$(cm account show | sed -n 's/^Thumbprint *//p')
like "the thumbprint is told" "$thumbprint" '^[A-Za-z0-9_-]{43}$'
cat >"$work/web.py" <<'PY'
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (self.path.rsplit("/", 1)[1] + "." + sys.argv[2]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        with open(sys.argv[3], "a") as f:
            f.write(self.path + "\n")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PY
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
python3 "$work/web.py" "$HTTP01_PORT" "$thumbprint" "$work/web.log" &
web=$!
pids+=("$web")
check "the web server runs" wait_for 20 listens "$HTTP01_PORT"
check "it answers for a name" cm obtain web.a.test --stateless --challenge http-01
check "the CA was there" grep -q '^/.well-known/acme-challenge/' "$work/web.log"
kill "$web"
wait "$web" 2>/dev/null

# A node with another storage and the same account answers, too.
cp "$(find "$work/store/acme" -name '*.key')" "$work/account.key"
STORE=elsewhere
cm obtain own.a.test --account-key "$work/account.key" >"$work/own.log" 2>&1
cm_exec=exec cm serve own.a.test --account-key "$work/account.key" --stateless >"$work/serve.log" 2>&1 &
node=$!
pids+=("$node")
check "a node serves" wait_for 30 grep -q 'is up' "$work/serve.log"
STORE=store
check "it answers for others" cm obtain node.a.test --stateless --challenge http-01
check "the pair is good" pair_is_good node.a.test
EMAIL=other@a.test fails "but not for another account" 4 'key authorization|unauthorized' \
    cm obtain node2.a.test --stateless --challenge http-01
kill "$node"
wait "$node" 2>/dev/null
check "alone, our own port answers" cm obtain alone.a.test --stateless --challenge http-01

# ---- proxies: "pebble" is a name that the proxy alone can make something of
port=${direct##*:}
port=${port%%/*}
ACME_DIR=https://pebble:$port/dir
python3 "$here/tests/integration/issue/proxy.py" "$work/port" "$work/proxy.log" user:s3cret &
pids+=($!)
check "the proxy runs" wait_for 20 test -s "$work/port"
at=127.0.0.1:$(cat "$work/port")
STORE=proxied
HTTP_PROXY=http://user:s3cret@$at http_proxy=http://user:s3cret@$at \
    fails "without a proxy, or with one for plain HTTP only, the CA is not found" 6 'resolve|pebble' \
    cm obtain p0.a.test --timeout 20
is "and the proxy not asked" "$(cat "$work/proxy.log" 2>/dev/null)" ""
check "by way of the proxy" cm obtain p1.a.test --proxy "http://user:s3cret@$at"
check "the pair is good" pair_is_good p1.a.test
like "the proxy was asked for the CA by name" "$(sort -u "$work/proxy.log")" "^CONNECT pebble:$port\$"
: >"$work/proxy.log"
https_proxy=http://user:s3cret@$at check "by way of the environment's" cm obtain p2.a.test
like "that was asked" "$(sort -u "$work/proxy.log")" "^CONNECT pebble:$port\$"
ALL_PROXY=user:s3cret@$at check "by way of the one for everything" cm obtain p3.a.test
https_proxy=http://user:s3cret@$at NO_PROXY=pebble \
    fails "but not for a host that is excepted" 6 'resolve|pebble' cm obtain p4.a.test --timeout 20
https_proxy=http://user:s3cret@$at \
    fails "nor when none is to be used" 6 'resolve|pebble' \
    cm obtain p4.a.test --timeout 20 --proxy none
cm obtain p4.a.test --timeout 20 --proxy "http://user:wr0ng@$at" -v >"$work/said" 2>&1
is "a wrong password is a failure of the network" "$?" 6
like "is told" "$(cat "$work/said")" 'proxy|407'
is "and shown nowhere" "$(grep -c 'wr0ng' "$work/said")" 0
ACME_DIR=$direct
check "an address is asked through it, too" cm obtain p5.a.test --proxy "http://user:s3cret@$at"
like "by its own name" "$(tail -n 1 "$work/proxy.log")" "^CONNECT 127.0.0.1:$port\$"
fails "what is no proxy is told at the start" 2 'proxy' cm obtain p6.a.test --proxy 'ftp://x'
tap_done
