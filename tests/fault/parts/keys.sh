#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Obtain and renew with keys in a PKCS#11 token: kill -9 at their system calls, and errors of them,
# those of the token (SoftHSM) among them. What storage has is a certificate whose key the token
# holds, the one that was there or the new one, or nothing at all; the same command succeeds when it
# is run again. Keys that nobody uses may be left in the token (docs/keys.md), never the reverse.
# SoftHSM writes its own files in place, and a kill amid that may cost it a key or the token: such
# points, which its files tell, prove nothing and are few.
. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/../storage.sh"

for program in softhsm2-util p11tool; do
    command -v $program >/dev/null || { echo "fault: $program is missing" >&2; exit 1; }
done
# The sweep looks at files itself.
unset CM_FAULT_PLACE
CM_FAULT_STORAGE=

killing=(openat openat2 write pwrite64 fsync close rename renameat unlinkat mkdirat fcntl fchmod)
errors='openat:EIO,EMFILE,ENOSPC read:EIO write:ENOSPC,EIO pwrite64:EIO fsync:EIO close:EIO
    renameat:EIO,EROFS unlinkat:EIO mkdirat:ENOSPC fcntl:ENOLCK,EIO fchmod:EPERM'
pin=48151623
(umask 077 && echo $pin >"$work/pin")
token="pkcs11:token=edge?pin-source=file:$work/pin"
export SOFTHSM2_CONF=$work/softhsm.conf
printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' \
    "$work/tokens" >"$SOFTHSM2_CONF"
mkdir -m 700 "$work/tokens"
softhsm2-util --init-token --free --label edge --pin $pin --so-pin 12345678 >/dev/null
report $? "no token could be made"
cp -a "$work/tokens" "$work/tokens.new"

prepare() {
    fresh_storage
    rm -rf "$work/tokens"
    cp -a "$work/tokens.new" "$work/tokens"
    [ "$scenario" != renew ] || cm obtain $name --key-url "$token" ||
        report 1 "$scenario: set-up: $(said)"
    before=$(held_pair)
}

command_of() { # sets words
    case $scenario in
    obtain) command_for obtain $name --key-url "$token" ;;
    renew) command_for renew $name --force --key-url "$token" ;;
    esac
}

# The serial number of what is stored, if the token has its key; "none" where nothing is; or what is
# wrong. Read as a next process does, which first ends what the dead one had begun to commit.
held_pair() {
    local at=certificates/certmesh-local/$name/$name url has wants
    look get "$at.crt" >"$work/got.crt" || : >"$work/got.crt"
    look get "$at.key" >"$work/got.key" || : >"$work/got.key"
    if [ ! -s "$work/got.crt" ] && [ ! -s "$work/got.key" ]; then
        echo none
        return
    fi
    url=$(head -n 1 "$work/got.key")
    wants=$(openssl x509 -in "$work/got.crt" -noout -pubkey 2>&1)
    has=$(GNUTLS_PIN=$pin certtool --load-privkey "$url" --pubkey-info 2>&1 |
        sed -n '/BEGIN PUBLIC KEY/,/END PUBLIC KEY/p')
    if [ -z "$has" ] || [ "$has" != "$wants" ]; then
        echo "the token does not have the key of the certificate: $url"
        return 1
    fi
    openssl x509 -in "$work/got.crt" -noout -serial
}

# Each of the token's files is an object that it shows.
token_is_whole() {
    local shown files
    shown=$(p11tool --login --set-pin $pin --list-all pkcs11:token=edge 2>/dev/null | grep -c '^Object ')
    files=$(find "$work/tokens" -name '*.object' ! -name token.object | wc -l)
    [ "$shown" = "$files" ] && GNUTLS_PIN=$pin p11tool --list-tokens 2>/dev/null | grep -q 'Label: edge'
}

must() { # RC TEXT: as report, but for what comes of a token that has broken
    [ "$1" = 0 ] || token_is_whole || torn=1
    [ $torn = 1 ] || report "$1" "$2"
}

check_and_run_again() { # RC of what was disturbed
    local now out torn=0
    now=$(held_pair)
    must $? "$point: $now"
    [ "$scenario" = obtain ] || [ "$now" != none ]
    must $? "$point: the pair that was there is gone"
    case $scenario/$1 in
    obtain/0) [ "$now" != none ] ;;
    renew/0) [ "$now" != "$before" ] ;;
    esac
    must $? "$point: exit 0, but nothing is new: $now"
    if [ "$scenario" = renew ] && [ "$now" != "$before" ]; then
        cm obtain $name --key-url "$token" # renewed already: not again
    else
        command_of
        timeout -k 5 "$wall_s" "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
    fi
    must $? "$point: run again: $(said)"
    out=$(held_pair) && [ "$out" != none ]
    must $? "$point: after the second run: $out"
    hours_pass
    cm renew $name --force --key-url "$token"
    must $? "$point: a renewal afterwards: $(said)"
    out=$(held_pair) && out=$(clean)
    must $? "$point: after the renewal: $out"
    [ $torn = 0 ] || broke=$((broke + 1))
}

disturb() { # CALL INDEX signal=KILL|error=E: sets rc; 0 if it happened
    command_of
    (
        timeout -k 5 "$wall_s" strace -f -qq -o "$work/strace.log" -e trace="$1" \
            -e inject="$1:$3:when=$2" "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
        exit $?
    ) 2>/dev/null
    rc=$?
    if [ "$3" = signal=KILL ]; then
        [ $rc = 137 ] && grep -q 'killed by SIGKILL' "$work/strace.log" && return 0
        [ $rc = 0 ] || report 1 "$point: it ended with exit $rc: $(said)"
        return 1
    fi
    grep -q '(INJECTED)' "$work/strace.log" || return 1
    case $rc in
    0) ;;
    1 | [3-8]) [ -s "$work/out" ] ;;
    *) false ;;
    esac
    report $? "$point: exit $rc: $(said)"
}

disturb_at() { # CALL INDEX HOW
    point="$scenario, $1 $2 $3"
    prepare
    if disturb "$@"; then
        fired=$((fired + 1))
        check_and_run_again $rc
    else
        missed=$((missed + 1))
    fi
    drop_storage
}

# "CALL INDEX HOW", one each line.
all_points() {
    local call from to error entry
    points "$work/calls.log" "${killing[@]}" | while read -r call from to; do
        seq -f "$call %.0f signal=KILL" "$from" "$to"
    done | take "$1"
    for entry in $errors; do
        points "$work/calls.log" "${entry%%:*}" | while read -r call from to; do
            for error in $(tr , ' ' <<<"${entry#*:}"); do
                seq -f "$call %.0f error=$error" "$from" "$to"
            done
        done
    done | take "$2"
}

sweep() { # SCENARIO KILLS ERRORS
    local began=$failed call index how list
    scenario=$1 fired=0 missed=0 broke=0
    prepare
    command_of
    measure "$work/calls.log" "$CERTMESH" read "${killing[@]}"
    report $? "$scenario: undisturbed: $(said)"
    list=$(all_points "$2" "$3")
    drop_storage
    while read -r call index how; do
        disturb_at "$call" "$index" "$how" </dev/null
    done <<<"$list"
    # How often a thread makes a call is not the same each time; but most must hit.
    [ $fired -gt 0 ] && [ $((missed * 3)) -le $((fired + missed)) ]
    report $? "$scenario: $missed of $((fired + missed)) did not hit"
    [ $((broke * 10)) -le $((fired + 10)) ]
    report $? "$scenario: $broke of $fired broke the token itself"
    echo "$scenario: $fired kills and errors, $missed came too late, $broke broke the token," \
        "$((failed - began)) failures"
}

sweep obtain "$(sample 10000 8)" "$(sample 10000 8)"
sweep renew "$(sample 10000 8)" "$(sample 10000 8)"

# What the detector is worth: the token loses the key.
scenario=renew
prepare
p11tool --login --set-pin $pin --batch --delete "pkcs11:token=edge;object=$name;type=private" \
    >/dev/null 2>&1
! out=$(held_pair) && token_is_whole
report $? "negative control: a key that is not in the token was not noticed: $out"
finish
