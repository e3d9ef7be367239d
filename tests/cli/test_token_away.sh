#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A PKCS#11 token that goes away under a server that is using it, and comes back: SoftHSM, whose
# module has to be initialized anew for that. Others are served meanwhile, and so is the same name
# where it has a second certificate with its key at hand.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

if ! command -v softhsm2-util >/dev/null || ! command -v p11tool >/dev/null; then
    [ -z "${CI:-}${CM_REQUIRE:-}" ] || { echo "Bail out! no softhsm2-util or p11tool"; exit 1; }
    echo "1..0 # SKIP no softhsm2-util or p11tool"
    exit 0
fi

mkdir "$work/tokens"
export SOFTHSM2_CONF=$work/softhsm.conf
printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' \
    "$work/tokens" >"$SOFTHSM2_CONF"
pin=48151623
(umask 077; echo $pin >"$work/pin")
softhsm2-util --init-token --free --label edge --pin $pin --so-pin 12345678 >/dev/null || {
    echo "Bail out! no token"
    exit 1
}
token="pkcs11:token=edge?pin-source=file:$work/pin"
export CERTMESH_STORAGE=file:$work/store CERTMESH_CA=internal

for name in a.test b.test; do
    run obtain --key-url "$token" $name
    is "$name has its key in the token" "$rc" 0
done
run obtain --key-url "$token" --key-type p384 both.test
is "so has both.test" "$rc" 0
run obtain file.test
is "file.test has not" "$rc" 0
# both.test once more, from another storage, with its key in a file
CERTMESH_STORAGE=file:$work/other run obtain --key-type rsa2048 both.test
is "and the second certificate of both.test has not" "$rc" 0
key2=$(find "$work/other" -name both.test.key)
crt2=$(find "$work/other" -name both.test.crt)

tls=$(free_port)
"$certmesh" serve -v --no-http --tls-port "$tls" --listen 127.0.0.1 --cert "$crt2" --key "$key2" \
    a.test b.test both.test file.test >"$work/serve.out" 2>"$work/serve.err" </dev/null &
server=$!
shake() { # NAME: the type of the key that was served, or the alert
    timeout 20 openssl s_client -connect "127.0.0.1:$tls" -servername "$1" </dev/null 2>&1 |
        sed -n 's/.*alert number \([0-9]*\).*/alert \1/p; s/^Peer signature type: //p' | head -n 1
}
until_is() { # SECONDS WANTED NAME
    local i
    for i in $(seq $(($1 * 5))); do
        [ "$(shake "$3")" = "$2" ] && return 0
        sleep 0.2
    done
    echo "# after $i attempts: $(shake "$3"); $(tail -n 3 "$work/serve.err")"
    return 1
}
logged() { # ':' or ' again:', NAME
    grep -c "'$2' can.* be served$1" "$work/serve.err"
}
logged_soon() {
    for _ in $(seq 150); do
        [ "$(logged "$1" "$2")" = 0 ] || return 0
        sleep 0.2
    done
    return 1
}

for name in a.test b.test both.test file.test; do
    check "$name is served" until_is 30 ECDSA $name
done

resume() { # NAME: with the session that was saved
    timeout 20 openssl s_client -connect "127.0.0.1:$tls" -servername "$1" -sess_in "$work/sess" \
        </dev/null 2>&1 | grep -c '^Reused, TLSv1.3'
}
(sleep 1; echo Q) | timeout 20 openssl s_client -connect "127.0.0.1:$tls" -servername a.test \
    -sess_out "$work/sess" >/dev/null 2>&1
is "a session is resumed" "$(resume a.test)" 1

# ---- away
mv "$work/tokens" "$work/away"
is "without the token the first handshake fails in the middle" "$(shake a.test)" ""
check "the log names the certificate" logged_soon : a.test
begin=$(date +%s%N)
is "the next one is refused: internal_error" "$(shake a.test)" "alert 80"
is "nothing has to be signed for a session that is resumed" "$(resume a.test)" 1
is "a key in a file is as good as ever" "$(shake file.test)" ECDSA
took=$((($(date +%s%N) - begin) / 1000000))
check "and both at once ($took ms)" test "$took" -lt 10000
check "both.test is served with its other certificate" until_is 30 RSA-PSS both.test
check "whose key is said to be away" logged_soon : both.test
# b.test has not been asked for: that its key is away is found out by somebody else
check "b.test is missed without a handshake" logged_soon : b.test
sleep 2
is "it stays away" "$(shake a.test)" "alert 80"
is "and is told of once" "$(logged : a.test)" 1
is "nothing is said to be back" "$(logged ' again:' '[a-z.]*')" 0

# ---- and back
mv "$work/away" "$work/tokens"
for name in a.test b.test both.test; do
    check "$name is served with its key again, without a restart" until_is 40 ECDSA $name
done
check "the log says so"  logged_soon ' again:' a.test
is "the PIN is nowhere" "$(grep -c $pin "$work/serve.err")" 0

# ---- a wrong PIN meanwhile: not tried again and again
mv "$work/tokens" "$work/away"
(umask 077; echo 9999 >"$work/pin.new")
cp -p "$work/pin" "$work/pin.good"
mv "$work/pin.new" "$work/pin"
is "away once more" "$(shake a.test)" ""
mv "$work/away" "$work/tokens"
sleep 4
is "with a wrong PIN it does not come back" "$(shake a.test)" "alert 80"
is "and the token has not been locked" \
    "$(p11tool --list-tokens 2>/dev/null | grep -A6 'Label: edge' | grep -ci 'locked')" 0
mv "$work/pin.good" "$work/pin"
check "with the right one it does" until_is 40 ECDSA a.test
kill -TERM "$server"
wait "$server"
is "the server ends as ever" $? 0
server=
tap_done
