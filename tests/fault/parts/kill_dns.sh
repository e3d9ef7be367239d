#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# kill -9 at the system calls of an obtain by dns-01 with a hook that puts records up: on files, and
# side by side with it on Redis and PostgreSQL. The next run has the certificate, with one order more
# at the most; and no record is left when the lock of the dead is over, nor a note of one. Who dies
# leaves his locks to servers for the rest of their lease: there all is killed first, then the leases
# end, then all is run again.
kind=${1:-file}
. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/../fleet.sh"
CM_FAULT_STORAGE= # each kind has a place of its own
. "$(dirname "$0")/../storage.sh"

calls=(openat openat2 write pwrite64 fsync close renameat renameat2 linkat unlinkat mkdirat flock
    socket connect sendto recvfrom poll)
zone=$work/zone # a file for each record that is up
mkdir "$zone"

servers=()
if [ "$kind" = file ]; then
    for server in redis postgres; do
        bash "$0" "$server" >"$work/$server.log" 2>&1 &
        servers+=("$server:$!")
    done
else
    fleet_server "$kind"
fi

use_pebble
cat >"$work/hook" <<H
#!/bin/sh
at='$CT_MGMT'
case \$1 in
present)
    : >'$zone'/"\$2\$3" && exec curl -s -f --max-time 10 -d '{"host":"'"\$2"'","value":"'"\$3"'"}' \$at/set-txt ;;
cleanup)
    curl -s -f --max-time 10 -d '{"host":"'"\$2"'"}' \$at/clear-txt && rm -f '$zone'/"\$2\$3" ;;
*) exit 2 ;;
esac
H
chmod 0755 "$work/hook"

dns_words() { # NAME...: sets words
    command_for obtain "$@"
    words+=(--dns "exec:$work/hook" --dns-resolver "$DNS_ADDR" --no-dns-check)
}

obtain() { # NAME...
    dns_words "$@"
    timeout -k 5 "$wall_s" "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
}

up() {
    find "$zone" -type f -name "_acme-challenge.$name*" | wc -l
}

notes() {
    if [ -n "$store" ]; then
        find "$store/certmesh/dns" -type f 2>/dev/null | wc -l
    else
        "$CERTMESH" storage ls -r certmesh/dns --storage "$storage" 2>/dev/null | wc -l
    fi
}

prepare() {
    fresh_storage
    cm account register
    report $? "$point: set-up: $(said)"
    mark
}

kill_once() { # CALL INDEX: 0 if it hit
    local rc
    dns_words $name
    # In a shell of its own, whose remark that something was killed nobody needs.
    (
        timeout -k 5 "$wall_s" strace -f -b execve -qq -o "$work/strace.log" -e trace="$1" \
            -e inject="$1:signal=KILL:when=$2" "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
        exit $?
    ) 2>/dev/null
    rc=$?
    [ $rc = 137 ] && grep -q 'killed by SIGKILL' "$work/strace.log" && return 0
    [ $rc = 0 ] || [ $rc = 4 ] || report 1 "$point: it ended with exit $rc: $(said)"
    return 1
}

# Who comes next, and after him others, until the lock of the dead has run out.
swept() {
    local i
    for i in $(seq 60); do
        [ "$(up) $(notes)" != "0 0" ] || return 0
        sleep 0.5
        obtain "next$i.test" || return 1
    done
    return 1
}

kill_at() { # CALL INDEX
    point="$kind, killed at $1 $2"
    name=fault$((fired + missed + 1)).test
    prepare
    if ! kill_once "$1" "$2"; then
        missed=$((missed + 1))
        drop_storage
        return
    fi
    fired=$((fired + 1))
    [ "$(up)" = 0 ] || left=$((left + 1))
    if [ -n "$store" ]; then
        again "$(orders)"
    else
        echo "$name|$storage|$(orders)|$point" >>"$work/harmed"
    fi
}

# Of the dead, all at once: a sample has no time to wait for them, and ends them at the server.
end_leases() {
    local key schema
    if [ "$mode" = full ]; then
        sleep 16
    elif [ "$kind" = redis ]; then
        for key in $(backend_ask --scan); do
            [ "$(backend_ask pttl "$key")" -lt 0 ] || backend_ask del "$key" >/dev/null || return 1
        done
    else
        for schema in $(backend_ask "select schemaname from pg_tables where tablename = 'certmesh_locks'"); do
            backend_ask "begin; update $schema.certmagic_locks set expires = now();
                update $schema.certmesh_locks set expires = now(); commit" || return 1
        done
    fi
}

again() { # ORDERS BEFORE
    local out
    mark
    hours_pass
    obtain $name
    report $? "$point: run again: $(said)"
    out=$(pair)
    report $? "$point: after the second run: $out"
    [ $(($1 + $(orders))) -le 2 ]
    report $? "$point: $1 and $(orders) orders"
    swept
    report $? "$point: $(up) records, $(notes) notes are left: $(said)"
    drop_storage
}

fired=0 missed=0 left=0 point="$kind, undisturbed"
prepare
dns_words $name
# Not measure(): the hook is left out, which is let run.
timeout -k 5 "$wall_s" strace -f -b execve -qq -o "$work/calls.log" \
    -e trace="$(IFS=, && echo "${calls[*]}")" "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
report $? "$point: $(said)"
[ "$(up) $(notes)" = "0 0" ]
report $? "$point: $(up) records, $(notes) notes are left"
limit=$(sample 300 "$([ "$kind" = file ] && echo 5 || echo 3)")
list=$(points "$work/calls.log" "${calls[@]}" | while read -r call from to; do
    seq -f "$call %.0f" "$from" "$to"
done | take "$limit")
drop_storage
: >"$work/harmed"
while read -r call index; do
    kill_at "$call" "$index" </dev/null
done <<<"$list"
if [ -s "$work/harmed" ]; then
    end_leases
    report $? "$kind: the leases did not end"
    while IFS='|' read -r name storage before point; do
        again "$before" </dev/null
    done <"$work/harmed"
fi
# How often a socket is read, and which thread comes first to a call, is not the same each time; and
# a sample is too small for shares.
if [ "$mode" = full ]; then [ $((missed * 3)) -le $((fired + missed)) ]; else [ $fired != 0 ]; fi
report $? "$kind: $missed of $((fired + missed)) kills did not hit"
echo "dns-01, $kind: $fired kills, $missed came too late, $left of them left a record up for the next one"

if [ "$kind" = file ] || [ "$mode" = full ]; then
    # A detector that cannot fail proves nothing: a record that nobody has noted stays, and so does a
    # note of another provider's.
    point="$kind, negative control" name=fault.test
    prepare
    : >"$zone/_acme-challenge.$name.nobodys"
    "$CERTMESH" storage put --storage "$storage" certmesh/dns/0123 "$work/hook" >"$work/out" 2>&1
    obtain $name
    [ "$(up) $(notes)" = "1 1" ]
    report $? "$point: what stays was not noticed: $(up) records, $(notes) notes"
fi

for server in "${servers[@]}"; do
    wait "${server#*:}"
    server=${server%:*}
    count=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$work/$server.log" | tail -n 1)
    echo "${count:-0 passed, 1 failed}" >"$work/$server.log.count"
    take_count "$work/$server.log"
done
finish
