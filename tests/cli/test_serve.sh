#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `serve` with the local CA: starts at once, serves, redirects, tells systemd, ends on a signal.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

export CERTMESH_STORAGE=file:$work/store
tls=$(free_port)
http=$(free_port)
while [ "$http" = "$tls" ]; do http=$(free_port); done

# shellcheck disable=SC2317
start() { # ARG...; waits until it says that it is up
    : >"$work/serve.err" # now, or the last one's words are taken for this one's
    "$certmesh" serve --internal --listen 127.0.0.1 "$@" >"$work/serve.out" 2>"$work/serve.err" \
        </dev/null &
    server=$!
    await grep -q ' is up' "$work/serve.err"
}
finish() { # SIGNAL: sets $rc and $seconds
    local from=$SECONDS
    kill -s "$1" "$server"
    wait "$server"
    rc=$?
    seconds=$((SECONDS - from))
    server=
}
get() {
    curl -sS --max-time 10 --cacert "$work/root.pem" "$@"
}

# ---- a socket as systemd has it
python3 - "$work/notify" <<'PY' >"$work/notified" &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
s.settimeout(60)
for _ in range(2):
    print(s.recv(100).decode(), flush=True)
PY
listener=$!
await test -S "$work/notify"
export NOTIFY_SOCKET=$work/notify

start --tls-port "$tls" --http-port "$http" localhost site.test
tap_result $? "serve --internal comes up" "$(cat "$work/serve.err")"
unset NOTIFY_SOCKET
check "both names come up" await grep -q 'all 2 names are up' "$work/serve.err"
like "it says where" "$(cat "$work/serve.err")" "^certmesh: https://localhost:$tls/ is up, certificate by "
is "nothing on stdout" "$(cat "$work/serve.out")" ""
cm trust --out "$work/root.pem" 2>/dev/null
check "curl trusts it with the exported root" get -o "$work/page" "https://localhost:$tls/"
like "the built-in page names the host" "$(cat "$work/page")" '<h1>localhost is served by certmesh</h1>'
like "the built-in page tells of the certificate" "$(cat "$work/page")" 'Valid until.*UTC'
check "the other name" get -o /dev/null --resolve "site.test:$tls:127.0.0.1" "https://site.test:$tls/"
is "the plain port redirects" \
    "$(get -o /dev/null -w '%{redirect_url}' "http://localhost:$http/a/b?c=d")" \
    "https://localhost:$tls/a/b?c=d"
is "another path is 404" "$(get -o /dev/null -w '%{http_code}' "https://localhost:$tls/nope")" 404
is "POST is 405" "$(get -o /dev/null -w '%{http_code}' -d x "https://localhost:$tls/")" 405
fails "a name that is not ours is refused in the handshake" 35 '.' \
    get -k --resolve "other.test:$tls:127.0.0.1" "https://other.test:$tls/"
fails "the port is taken: exit code 8" 8 'Another program has that port' \
    cm serve --internal --listen 127.0.0.1 --tls-port "$tls" --no-http localhost
finish TERM
is "SIGTERM: exit code 0" "$rc" 0
at_most "SIGTERM: ends within 5 s" "$seconds" 5
like "says that it stopped" "$(cat "$work/serve.err")" '^certmesh: stopped$'
wait "$listener"
is "systemd was told" "$(xargs <"$work/notified")" "READY=1 STOPPING=1"

# ---- files
mkdir -p "$work/www/sub"
echo 'hello from a file' >"$work/www/index.html"
echo secret >"$work/outside.txt"
echo hidden >"$work/www/.hidden"
ln -s "$work/outside.txt" "$work/www/link.txt"
start --tls-port "$tls" --no-http --dir "$work/www" localhost
tap_result $? "serve --dir comes up" "$(cat "$work/serve.err")"
is "index.html" "$(get "https://localhost:$tls/")" 'hello from a file'
is "query strings are not part of the path" "$(get "https://localhost:$tls/index.html?x=1")" 'hello from a file'
for path in /../outside.txt /%2e%2e/outside.txt /.hidden /link.txt /absent; do
    code=$(get --path-as-is -o "$work/got" -w '%{http_code}' "https://localhost:$tls$path")
    like "$path is refused" "$code" '^4[0-9][0-9]$'
done
# an open connection must not hold it up
exec 3<>"/dev/tcp/127.0.0.1/$tls"
finish INT
exec 3>&-
is "SIGINT: exit code 0" "$rc" 0
at_most "SIGINT with a client that says nothing: ends within 5 s" "$seconds" 5

# ---- one certificate for all
start --tls-port "$tls" --no-http --san one.test two.test
tap_result $? "serve --san comes up" "$(cat "$work/serve.err")"
check "and both names do" await grep -q 'all 2 names are up' "$work/serve.err"
check "each is served" get -o /dev/null --resolve "two.test:$tls:127.0.0.1" "https://two.test:$tls/"
check "by one certificate" test -s "$work/store/certificates/certmesh-local/one.testtwo.test/one.testtwo.test.crt"
finish TERM

# ---- a snapshot
head -c 32 /dev/urandom >"$work/key"
chmod 600 "$work/key"
start --tls-port "$tls" --no-http --snapshot "$work/snapshot" --snapshot-key-file "$work/key" localhost
tap_result $? "serve --snapshot comes up" "$(cat "$work/serve.err")"
check "a snapshot is written" await test -s "$work/snapshot"
is "which only its owner can read" "$(stat -c %a "$work/snapshot")" 600
fails "and has nothing in clear" 1 '^$' grep -qaE 'PRIVATE|BEGIN|localhost' "$work/snapshot"
finish TERM

fails "--dir that is not there" 2 'absent' cm serve --internal --dir "$work/absent" localhost
fails "serve of a malformed name" 2 'a..b' cm serve --internal a..b

tap_done
