#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Certificates on demand behind the hook door: threads that wait in gnutls_handshake(), and a program
# that decides.
here=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tests/util/tap.sh
. "$here/util/tap.sh"
: "${ONDEMAND_TESTD:?path of ondemand_testd}"

work=$(mktemp -d "${TMPDIR:-/tmp}/cm-hook.XXXXXX")
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT
mkfifo "$work/stdin"
start() { # [RECHECK-S]
    "$ONDEMAND_TESTD" "file://$work/store" "$@" <"$work/stdin" >"$work/out" 2>"$work/err" &
    pid=$!
    exec 3>"$work/stdin"
    for _ in $(seq 600); do
        port=$(awk '/^port/ {print $2}' "$work/out")
        [ -z "$port" ] || return 0
        sleep 0.05
    done
    echo "Bail out! no server: $(cat "$work/err")"
    exit 1
}
stop() {
    exec 3>&-
    wait "$pid"
    is "the server stood it" "$? $(cat "$work/err")" "0 "
    pid=
}
start

shake() { # NAME [s_client option...]: names of the certificate, or the alert
    local name=$1 text
    shift
    text=$(timeout 30 openssl s_client -connect "127.0.0.1:$port" -servername "$name" "$@" \
        </dev/null 2>&1)
    openssl x509 -noout -ext subjectAltName <<<"$text" 2>/dev/null | sed -n 's/.*DNS://p'
    sed -n 's/.*SSL alert number \([0-9]*\).*/alert \1/p' <<<"$text" | head -n 1
}
asked() { # NAME
    grep -c "^asked $1 " "$work/out"
}

is "an answer at once" "$(shake yes.test)" yes.test
is "by TLS 1.2" "$(shake yes12.test -tls1_2)" yes12.test
is "with HelloRetryRequest" "$(shake yes-hrr.test -groups X448:P-521:P-256)" yes-hrr.test
is "an answer that comes later" "$(shake later.test)" later.test
is "an answer that never comes" "$(shake never.test)" "alert 112"
is "a no" "$(shake no.test)" "alert 112"
is "again without a question" "$(shake yes.test)$(asked yes.test)" yes.test1
like "who asked is told" "$(cat "$work/out")" '^asked yes.test 127.0.0.1$'
waiting=()
for i in $(seq 30); do
    shake later-herd.test >"$work/herd.$i" &
    waiting+=($!)
done
wait "${waiting[@]}"
is "30 at once are all served" "$(cat "$work"/herd.* | sort | uniq -c | tr -s ' ')" \
    " 30 later-herd.test"
is "with one question" "$(asked later-herd.test)" 1
stop

# Decided about again while it is served.
start 1
is "once" "$(shake once.test)" once.test
is "later" "$(shake later.test)" later.test
sleep 1.1
is "it is served, and now it is a no" "$(shake once.test)" "alert 112"
is "it is served, and the yes comes later" "$(shake later.test)" later.test
is "with a question each time" "$(asked once.test) $(asked later.test)" "2 2"
stop
tap_done
