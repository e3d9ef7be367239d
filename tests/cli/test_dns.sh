#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# DNS challenges with real servers: records put up at BIND by signed updates, Pebble looks there.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

tools=$here/../util
bind_lines=$(LAB_OWNER=$$ "$tools/bind-lab" up "$work/bind")
rc=$?
if [ $rc = 0 ]; then
    eval "$bind_lines"
    env_lines=$(LAB_DNS=$BIND_ADDR LAB_OWNER=$$ "$tools/lab" up "$work/lab")
    rc=$?
fi
if [ $rc = 77 ]; then
    echo "1..0 # SKIP no pebble or no BIND"
    exit 0
fi
[ $rc = 0 ] || exit 1
eval "$env_lines"
mute=
trap '[ -z "$mute" ] || kill "$mute"; "$tools/lab" down "$work/lab"; "$tools/bind-lab" down "$work/bind"; cleanup' EXIT

export CERTMESH_STORAGE=file:$work/store CERTMESH_CA=$ACME_DIR CERTMESH_CA_ROOT=$LAB_CA
where=(--dns-resolver "$BIND_ADDR" --dns-server-port "$BIND_PORT")
rfc2136() { # KEYFILE
    echo "rfc2136://$BIND_ADDR/?key-file=$1"
}
dns=(--dns "$(rfc2136 "$BIND_KEY")" "${where[@]}")
txt() { # NAME [SERVER]
    "$tools/bind-lab" txt "$work/bind" "_acme-challenge.$1" "${@:2}"
}
notes() {
    cm storage ls -r certmesh/dns 2>/dev/null | wc -l
}
names_of() { # NAME
    cm show --json "$1" | python3 -c 'import json, sys
print(sorted(json.load(sys.stdin)["certificates"][0]["names"]))'
}

# ---- what is refused before anything is asked for
run account register --agree
fails "a wildcard without a DNS provider: exit code 4" 4 'a DNS provider' cm obtain '*.a.test'
fails "dns-01 without a DNS provider: exit code 2" 2 'provider' cm obtain --challenge dns-01 a.test
fails "an unknown provider: exit code 2, and which there are" 2 "'nobody'.*rfc2136:" \
    cm obtain --dns nobody:x a.test
fails "an unknown parameter: exit code 2" 2 "'kee-file'" \
    cm obtain --dns "rfc2136://$BIND_ADDR/?kee-file=x" a.test
fails "no key: exit code 2" 2 'key-file= is missing' cm obtain --dns "rfc2136://$BIND_ADDR/" a.test
fails "a resolver that is no address: exit code 2" 2 'DNS server .x:y' \
    cm obtain "${dns[@]}" --dns-resolver x:y a.test
cp "$BIND_KEY" "$work/open.key"
chmod 644 "$work/open.key"
fails "a key that others can read is refused" 5 'open\.key' \
    cm obtain --dns "$(rfc2136 "$work/open.key")" a.test
printf 'key "k" { algorithm hmac-md5; secret "c2VjcmV0"; };' >"$work/md5.key"
chmod 600 "$work/md5.key"
fails "a key of an algorithm that nobody should use: exit code 2" 2 'hmac-md5.*not supported' \
    cm obtain --dns "$(rfc2136 "$work/md5.key")" a.test

# ---- names and wildcards
run obtain "${dns[@]}" --san a.test '*.a.test'
is "a name and its wildcard in one order" "$rc" 0
is "the certificate has both" "$(names_of a.test)" "['*.a.test', 'a.test']"
is "no record is left" "$(txt a.test)" ""
run obtain "${dns[@]}" --san x.two.test y.two.test child.a.test alias.a.test '*.alias.a.test'
is "a slow secondary, two names in one zone, a delegated zone, CNAMEs: one order" "$rc" 0
is "no record is left, where the CNAMEs lead either" "$(txt x.two.test)$(txt child.a.test)$(
    dig +short -p "$BIND_PORT" @127.0.0.1 alias.acme.test TXT)" ""
run obtain "${dns[@]}" host.star.a.test
is "a CNAME that a wildcard record makes is not followed" "$rc" 0
run obtain "${dns[@]}" --parallel 4 --json p.a.test q.a.test r.a.test '*.r.a.test'
is "several orders in one zone at once" "$rc" 0
cm obtain "${dns[@]}" -q s.a.test >"$work/s.out" 2>&1 &
s=$!
run obtain "${dns[@]}" -q t.a.test
wait $s
is "two processes in one zone at once" "$rc $?" "0 0"
run obtain "${dns[@]}" lost.test
is "a server that is not there does not hold it up for ever" "$rc" 0
like "... and it is told" "$err" 'lost\.test shows on the servers that answer'
run obtain "${where[@]}" --dns "$(rfc2136 "$BIND_KEY512")" '*.a.test'
is "a key that may change this one record is enough" "$rc" 0
run obtain "${dns[@]}" --challenge http-01,dns-01 --http-port "$HTTP01_PORT" --listen 127.0.0.1 --san \
    both.a.test '*.both.a.test'
is "http-01 for the name, dns-01 for the wildcard" "$rc" 0
run obtain "${dns[@]}" --challenge http-01,dns-01 --http-port "$HTTP01_PORT" --listen 127.0.0.1 \
    --parallel 1 -v far.a.test host.locked.test
is "where one challenge fails the other one does it" "$rc" 0
is "... without another order, where the CA was not asked yet" "$(grep -c 'newOrder: HTTP 201' <<<"$err")" 3
run obtain --dns "$(rfc2136 "$BIND_KEY")" --dns-resolver "127.0.0.1:$FREE_PORT" --no-dns-check u.a.test
is "without the check the zone is found by its server" "$rc" 0
CERTMESH_DNS=$(rfc2136 "$BIND_KEY") run obtain "${where[@]}" v.a.test
is "the provider from the environment" "$rc" 0
is "all notes are gone" "$(notes)" 0

# ---- reasons
fails "a secondary that does not show it: which, and what it says" 6 \
    'ns1\.a\.test shows it; ns2\.a\.test has no such record' \
    cm obtain "${dns[@]}" --dns-timeout 2 stuck.test
is "... and the record is taken down" "$(txt stuck.test)" ""
fails "a wrong secret" 6 "BADSIG: .*'acme-key'" \
    cm obtain "${where[@]}" --dns "$(rfc2136 "$BIND_WRONG_KEY")" w.a.test
fails "a key that the server does not know" 6 "BADKEY: .*'unknown-key'" \
    cm obtain "${where[@]}" --dns "$(rfc2136 "$BIND_UNKNOWN_KEY")" w.a.test
fails "a key that may not" 6 'REFUSED: may key narrow-key change TXT records at _acme-challenge\.w\.' \
    cm obtain "${where[@]}" --dns "$(rfc2136 "$BIND_KEY512")" w.a.test
fails "CNAMEs in a circle" 1 'is it a circle' cm obtain "${dns[@]}" circle.a.test
fails "a resolver that is not there" 6 "127\.0\.0\.1:$FREE_PORT" \
    cm obtain --dns "$(rfc2136 "$BIND_KEY")" --dns-resolver "127.0.0.1:$FREE_PORT" w.a.test
python3 -c 'import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("127.0.0.1", int(sys.argv[1])))
open(sys.argv[2], "w").close()
while True:
    data, peer = s.recvfrom(65535)
    s.sendto(b"x" + data[1:], peer)
    s.sendto(data, peer)' "$((FREE_PORT + 1))" "$work/mute.ready" &
mute=$!
await test -e "$work/mute.ready"
fails "a resolver that answers nothing but nonsense" 6 "127\.0\.0\.1:$((FREE_PORT + 1)) does not answer" \
    cm obtain --timeout 3 --dns "$(rfc2136 "$BIND_KEY")" --dns-resolver "127.0.0.1:$((FREE_PORT + 1))" \
    w.a.test
is "nothing is left of all that" "$(notes) $(txt w.a.test)" "0 "

# ---- a record for each account, if this CA has that
if cm obtain "${dns[@]}" --challenge dns-account-01 '*.acc.a.test' >"$work/acc.out" 2>&1; then
    is "dns-account-01" "$(names_of '*.acc.a.test') $(notes)" "['*.acc.a.test'] 0"
else
    like "dns-account-01: this CA has none, or another draft's" "$(cat "$work/acc.out")" \
        'offers no dns-account-01|dns-account-01 failed'
fi

# ---- what a process left long ago
left=left-$$
printf 'server 127.0.0.1 %s\nupdate add _acme-challenge.left.a.test 1 TXT "%s"\nsend\n' "$BIND_PORT" "$left" |
    nsupdate -k "$BIND_KEY"
id=$(printf '_acme-challenge.left.a.test %s' "$left" | sha256sum | cut -c 1-32)
printf '{"provider":"rfc2136://%s","fqdn":"_acme-challenge.left.a.test","value":"%s","zone":"a.test",
"identifier":"left.a.test","challenge_name":"_acme-challenge.left.a.test","token":"t","key_authorization":"t.k",
"ttl":60,"slot":9,"fence":1}' "$BIND_ADDR" "$left" >"$work/note"
cm storage put "certmesh/dns/$id" "$work/note"
run clean
is "clean without the provider leaves it" "$rc $(txt left.a.test) $(notes)" "0 \"$left\" 1"
like "... and tells" "$err" '1 TXT record is noted as up'
run clean --dns "$(rfc2136 "$BIND_KEY")" --json
is "with it takes it down" "$rc $(txt left.a.test) $(notes) $(json 'd["n_dns_records"]')" "0  0 0"

# ---- killed while the record is up: who comes next takes it down
"$certmesh" obtain "${dns[@]}" stuck.test >"$work/stuck.out" 2>&1 </dev/null &
server=$!
await_txt() {
    [ -n "$(txt stuck.test)" ]
}
await await_txt
kill -KILL "$server"
wait "$server" 2>/dev/null
server=
is "killed: the record is still there, and a note of it" "$(txt stuck.test | wc -l) $(notes)" "1 1"
swept=0
for i in $(seq 40); do
    cm obtain "${dns[@]}" -q "k$i.a.test" >"$work/k.out" 2>&1
    [ -n "$(txt stuck.test)" ] || swept=1
    [ $swept = 0 ] || break
    sleep 0.5
done
is "the next process takes it down" "$swept $(notes)" "1 0"

tap_done
