#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# kill -9 at the system calls of every command that changes storage, each call by itself and one
# index after the other. Whatever was stored before is whole afterwards, the same command succeeds
# when it is run again, so does a renewal at once, and nothing is left. With a real CA the orders
# are counted too: none more once the journal knows of one, and one more at most for each kill
# before that.
. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/../storage.sh"

changing=(openat openat2 write pwrite64 fsync fdatasync close rename renameat renameat2 link linkat
    unlink unlinkat mkdir mkdirat rmdir ftruncate fcntl flock fchmod fchmodat utimensat)
talking=(socket connect sendto recvfrom sendmsg recvmsg bind listen accept4 poll)
journal=certmesh/journal/$name

# ---- scenarios: what is there before, what is killed, what is run again

prepare() {
    fresh_storage
    case $scenario in
    renew | revoke) cm obtain $name ;;
    account) : ;;
    rollover) cm account register ;;
    obtain) [ "$ca" = local ] || cm account register ;;
    clean) cm obtain $name && put_expired ;;
    esac || report 1 "$scenario: set-up: $(said)"
}

# A certificate that expired years ago, for the cleaner.
put_expired() {
    local dir=certificates/certmesh-local/gone.test part
    if [ ! -f "$work/gone.crt" ]; then
        certtool --generate-privkey --key-type ecdsa --curve secp256r1 --no-text \
            --outfile "$work/gone.key" 2>/dev/null
        printf '%s\n' 'cn = gone.test' 'dns_name = gone.test' 'activation_date = "2020-01-01"' \
            'expiration_date = "2020-02-01"' >"$work/gone.cfg"
        certtool --generate-self-signed --load-privkey "$work/gone.key" \
            --template "$work/gone.cfg" --no-text --outfile "$work/gone.crt" 2>/dev/null
        printf '{\n\t"sans": [\n\t\t"gone.test"\n\t],\n\t"issuer_data": null\n}' >"$work/gone.json"
    fi
    for part in key crt json; do
        look put "$dir/gone.test.$part" <"$work/gone.$part" || return 1
    done
}

command_of() { # sets words
    case $scenario in
    obtain) command_for obtain $name ;;
    renew) command_for renew $name --force ;;
    revoke) command_for revoke $name --yes ;;
    account) command_for account register ;;
    rollover) command_for account rollover ;;
    clean) command_for clean ;;
    esac
}

# What is stored must be whole now, before anything is run again. Sets $now to the serial number.
check_before_rerun() {
    local out
    now=
    case $scenario in
    renew | clean)
        now=$(pair)
        report $? "$point: the pair that was there: $now"
        ;;
    obtain | revoke)
        # Not yet or not any more there is as good; a part of it is not.
        if now=$(pair); then
            report 0 -
        else
            out=$(look absent $name)
            report $? "$point: $now; $out"
            now=
        fi
        ;;
    esac
}

# Run again what was killed; the name of a certificate revoked already is gone (7).
rerun() {
    local rc
    case $scenario in
    obtain) cm obtain $name ;;
    # What was renewed already is not to be renewed again.
    renew) if [ "$now" = "$before" ]; then cm renew $name --force; else cm obtain $name; fi ;;
    revoke)
        cm revoke $name --yes
        rc=$?
        [ $rc = 0 ] || { [ $rc = 7 ] && [ -z "$now" ]; }
        ;;
    account) cm account register ;;
    rollover) cm account rollover ;;
    clean) cm clean ;;
    esac
    report $? "$point: run again: $(said)"
}

check_after_rerun() {
    local out=
    case $scenario in
    obtain | renew) out=$(pair) ;;
    revoke) out=$(look absent $name) ;;
    account) [ "$(since_mark | grep -c 'There are now')" -le 1 ] || out=$(since_mark) ;;
    # The account is the one it was, and the CA takes what is signed with the stored key.
    rollover)
        out=$(since_mark | grep 'accounts in memory')
        [ -n "$out" ] || cm account show || out=$(said)
        ;;
    clean) out=$(pair) && out=$(look absent gone.test) ;;
    esac
    report $? "$point: after the second run: $out"
    out=$(clean) || out=$(clean_later "$out")
    report $? "$point: after the second run: $out"
    [ "$out" != later ] || for_cleaner=$((for_cleaner + 1))
}

# The lock of a dead process is taken over at once, not waited for.
renew_at_once() {
    local out
    SECONDS=0
    cm obtain $name && cm renew $name --force
    report $? "$point: a renewal afterwards: $(said)"
    [ "$SECONDS" -le 5 ]
    report $? "$point: the renewal afterwards took $SECONDS s"
    out=$(pair) && out=$(clean)
    report $? "$point: after the renewal: $out"
    no_temporaries
    report $? "$point: the sweep left $(ls "$store/certmesh/tmp")"
}

kill_once() { # CALL INDEX: 0 if it hit
    local rc
    command_of
    # In a shell of its own, whose remark that something was killed nobody needs.
    (
        timeout -k 5 "$wall_s" strace -f -qq -o "$work/strace.log" -e trace="$1" \
            -e inject="$1:signal=KILL:when=$2" \
            "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
        exit $?
    ) 2>/dev/null
    rc=$?
    [ $rc = 137 ] && grep -q 'killed by SIGKILL' "$work/strace.log" && return 0
    [ $rc = 0 ] || report 1 "$point: it ended with exit $rc: $(said)"
    return 1
}

kill_at() { # CALL INDEX
    point="$scenario, killed at $1 $2"
    prepare
    before=$(pair 2>/dev/null)
    mark
    if ! kill_once "$1" "$2"; then
        missed=$((missed + 1))
        drop_storage
        return
    fi
    fired=$((fired + 1))
    check_before_rerun
    journalled=$(look list | grep -cx "$journal")
    hours_pass
    rerun
    if [ "$ca" = pebble ]; then
        ! order_after_finalize
        report $? "$point: a second order after finalize"
        # Who was killed while the CA was asking him has failed the order.
        ! since_mark | grep -q 'set INVALID' || journalled=0
        [ "$(orders)" -le $((2 - journalled)) ]
        report $? "$point: $(orders) orders, $journalled of them in the journal"
        [ "$(orders)" -le 1 ] || again=$((again + 1))
    fi
    check_after_rerun
    renew_at_once
    drop_storage
}

sweep() { # SCENARIO LIMIT CALLS...
    local limit=$2 call index from to began=$failed list
    scenario=$1 fired=0 missed=0 again=0 for_cleaner=0
    shift 2
    prepare
    command_of
    measure "$work/calls.log" "$CERTMESH" "$@"
    report $? "$scenario: undisturbed: $(said)"
    list=$(points "$work/calls.log" "$@" | while read -r call from to; do
        seq -f "$call %.0f" "$from" "$to"
    done | take "$limit")
    drop_storage
    while read -r call index; do
        [ "$mode" != full ] || [ $((fired % 100)) != 99 ] || echo "  $ca $scenario: $fired kills ..."
        kill_at "$call" "$index" </dev/null
    done <<<"$list"
    # How often a socket is read, and which thread comes first to a call, is not the same each
    # time: so a last one may be missing. But most must hit.
    [ $((missed * 3)) -le $((fired + missed)) ]
    report $? "$scenario: $missed of $((fired + missed)) kills did not hit"
    if [ "$ca" = local ]; then
        echo "local $scenario: $fired kills, $missed came too late, $((failed - began)) failures"
    else
        echo "pebble $scenario: $fired kills, $missed came too late, $((failed - began)) failures;" \
            "$again orders more, none after finalize; $for_cleaner challenges left to the cleaner"
    fi
}

# ---- the local CA, with no network in the way

sweep obtain "$(sample 10000 35)" "${changing[@]}"
sweep renew "$(sample 10000 35)" "${changing[@]}"
sweep clean "$(sample 10000 15)" "${changing[@]}"

# A detector that cannot fail proves nothing: a torn pair must be seen.
fresh_storage
cm obtain $name
report $? "set-up: $(said)"
openssl ecparam -name prime256v1 -genkey -noout |
    look put "certificates/certmesh-local/$name/$name.key"
! out=$(pair)
report $? "negative control: a foreign key was not noticed: $out"

# ---- a real CA

use_pebble
sweep account "$(sample 200 15)" "${changing[@]}" "${talking[@]}"
sweep rollover "$(sample 400 8)" "${changing[@]}" "${talking[@]}"
sweep obtain "$(sample 400 35)" "${changing[@]}" "${talking[@]}"
sweep renew "$(sample 400 35)" "${changing[@]}" "${talking[@]}"
sweep revoke "$(sample 200 20)" "${changing[@]}" "${talking[@]}"

# Likewise a second order: without the journal the order that was finalized is lost. The last
# renames belong to the commit of the certificate.
scenario=renew point='negative control' found=
for index in 12 11 10 9 8 7 6 5 4 3 2 1; do
    prepare
    mark
    if kill_once renameat $index && look list | grep -qx "$journal" &&
        since_mark | grep -q 'POST /finalize-order/'; then
        found=$index
        break
    fi
done
[ -n "$found" ]
report $? "negative control: no kill between finalize and commit"
look remove "$journal"
cm renew $name --force
report $? "negative control: $(said)"
order_after_finalize
report $? "negative control: a second order after finalize was not noticed"

finish
