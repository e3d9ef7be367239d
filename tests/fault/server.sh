# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of corrupt_state.sh: one server over a storage in which many names are damaged. First with a
# CA that can mend them, then with one that cannot be reached: then what is damaged must be refused,
# never answered with something else.
# shellcheck disable=SC2154

healthy=(good1.test good2.test good3.test)
server_base=$work/server
mkdir -m 700 "$server_base"
cm_in "$server_base" obtain "${healthy[@]}" donor.test --quiet
report "$rc" "set-up of the server: $(cat "$out")"
server_pid=

stop_server() {
    [ -n "$server_pid" ] || return 0
    kill "$server_pid" 2>/dev/null
    wait "$server_pid" 2>/dev/null
    server_rc=$?
    server_pid=
}
at_exit stop_server

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start_server() { # STORE OPTION...: names are in ${names[@]}
    local store=$1
    shift
    port=$(free_port)
    "$CERTMESH_ASAN" serve --root "$store" --listen 127.0.0.1 --tls-port "$port" --no-http "$@" \
        "${names[@]}" >"$work/server.log" 2>&1 </dev/null &
    server_pid=$!
}

# What a client is given for NAME: "ok" if it is NAME's and leads to the root, "refused" if there
# was no certificate, else what is wrong with it.
ask() { # NAME ROOT [SNI]
    timeout 15 openssl s_client -connect "127.0.0.1:$port" -servername "${3:-$1}" -CAfile "$2" \
        -verify_hostname "$1" -verify_return_error </dev/null >"$work/asked" 2>&1
    # Without a certificate openssl has nothing to complain about, and says "0 (ok)" as well.
    if grep -q 'verify error' "$work/asked"; then
        grep 'verify error' "$work/asked" | head -n 1
    elif grep -q 'BEGIN CERTIFICATE' "$work/asked"; then
        grep -q 'Verify return code: 0 (ok)' "$work/asked" && echo ok || echo "not verified"
    elif grep -qE 'SSL alert number (112|80)$' "$work/asked"; then
        echo refused
    else
        echo "no answer: $(head -c 300 "$work/asked" | tr '\n' ' ')"
    fi
}

wait_ok() { # NAME ROOT SECONDS
    local end=$((SECONDS + $3)) said=
    while :; do
        said=$(ask "$1" "$2")
        [ "$said" != ok ] || return 0
        [ "$SECONDS" -lt "$end" ] || break
        sleep 0.2
    done
    echo "$said"
    return 1
}

# A name for each damage to each half, made by copying before the damage is done.
server_names() { # STORE
    local kind suffix name
    names=("${healthy[@]}") hurt=()
    for suffix in key crt; do
        pick
        for kind in "${picked[@]}"; do
            name=$suffix-${kind//_/-}.test
            hurt+=("$name:$kind:$suffix")
            names+=("$name")
        done
    done
    cm_in "$1" obtain "${names[@]}" --quiet
    report "$rc" "set-up of the server: $(tail -n 3 "$out")"
    touch -d '1 hour ago' "$1"/certificates/certmesh-local/*/*
}

hurt_all() { # STORE ISSUER
    local item name kind suffix dir
    for item in "${hurt[@]}"; do
        IFS=: read -r name kind suffix <<<"$item"
        dir=$1/certificates/$2
        "$damage" "$kind" "$dir/$name/$name.$suffix" "$dir/donor.test/donor.test.$suffix" \
            "$dir/good1.test/good1.test.$suffix"
        [ $? != 2 ]
        report $? "set-up of the server: $kind on $name.$suffix"
    done
}

case="server with a CA"
began_failed=$failed
server_names "$server_base"
server_root=$work/server.root.pem
cp "$server_base/certmesh/ca/local/root.crt" "$server_root"
cp -a "$server_base" "$work/server.dead"
hurt_all "$server_base" certmesh-local
start_server "$server_base" --internal
for name in "${healthy[@]}"; do
    said=$(wait_ok "$name" "$server_root" 30)
    report $? "$case: $name, which is whole: $said"
done
mended=0
for item in "${hurt[@]}"; do
    IFS=: read -r name kind suffix <<<"$item"
    # Where a full directory is in the way nothing can be stored: it is served from memory.
    said=$(wait_ok "$name" "$server_root" 30)
    rc=$?
    # Only the CA's root could tell that the certificate above the leaf is not what it was.
    if [ "$rc" != 0 ] && [ "$suffix" = crt ] && [[ $kind = flip_* ]]; then
        [[ $said != *"ostname mismatch"* ]]
        rc=$?
    fi
    report "$rc" "$case: $name: $said: $(grep "$name" "$work/server.log" | tail -n 3)"
    mended=$((mended + 1))
done
# The detectors: another name's certificate, and none.
said=$(ask good1.test "$server_root" good2.test)
[[ $said = *mismatch* ]]
report $? "negative control: another name's certificate was taken for '$said'"
said=$(ask nobody.test "$server_root")
[ "$said" = refused ]
report $? "negative control: a name that is not served was '$said'"
kill -0 "$server_pid"
report $? "$case: it is gone: $(tail -n 20 "$work/server.log")"
stop_server
! grep -qE 'Sanitizer|runtime error' "$work/server.log" && [ "$server_rc" -lt 100 ]
report $? "$case: ended with $server_rc: $(tail -n 20 "$work/server.log")"
echo "server with a CA: $mended damaged names asked for, ${#healthy[@]} whole ones," \
    "$((failed - began_failed)) failures"

# The same storage for a CA that does not answer.
case="server without a CA"
began_failed=$failed
dead=$work/server.dead
dead_port=$(free_port)
mv "$dead/certificates/certmesh-local" "$dead/certificates/127.0.0.1-$dead_port-dir"
hurt_all "$dead" "127.0.0.1-$dead_port-dir"
start_server "$dead" --ca "https://127.0.0.1:$dead_port/dir" --agree
for name in "${healthy[@]}"; do
    said=$(wait_ok "$name" "$server_root" 30)
    report $? "$case: $name, which is whole: $said"
done
refused=0 served=0
for item in "${hurt[@]}"; do
    IFS=: read -r name kind suffix <<<"$item"
    # Quick to be served, and looked at to the bottom a moment later.
    end=$((SECONDS + 20))
    while :; do
        said=$(ask "$name" "$server_root")
        case $said in
        ok | refused) break ;;
        *mismatch* | *"no answer"*) break ;;
        esac
        [ "$SECONDS" -lt "$end" ] || break
        [ "$suffix" = crt ] && [[ $kind = flip_* ]] && break
        sleep 0.2
    done
    case $said in
    ok) served=$((served + 1)) ;; # a damage that takes nothing away: CRLF, a tail
    refused) refused=$((refused + 1)) ;;
    *)
        [ "$suffix" = crt ] && [[ $kind = flip_* ]] && [[ $said != *mismatch* ]] &&
            [[ $said != *"no answer"* ]]
        report $? "$case: $name was answered: $said"
        ;;
    esac
done
[ "$refused" -ge $((${#hurt[@]} / 3)) ]
report $? "$case: only $refused of ${#hurt[@]} damaged names were refused"
kill -0 "$server_pid"
report $? "$case: it is gone: $(tail -n 20 "$work/server.log")"
stop_server
! grep -qE 'Sanitizer|runtime error' "$work/server.log"
report $? "$case: $(grep -A 20 -E 'Sanitizer|runtime error' "$work/server.log" | head -n 20)"
echo "server without a CA: $refused damaged names refused, $served served all the same," \
    "$((failed - began_failed)) failures"
