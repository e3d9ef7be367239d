# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154
#
# For the parts that kill a command, or let a call of its fail, at its talk with a storage that is a
# server. Whoever dies leaves his lock behind for the rest of its lease: so first all the harm is
# done, each in a place of its own, then the leases end, then all commands are run again.
. "$here/fleet.sh"
. "$here/storage.sh"

talking=(socket connect sendto recvfrom sendmsg recvmsg poll write close setsockopt fcntl)
errors='socket:EMFILE,ENOMEM connect:ECONNREFUSED,ENETUNREACH,ETIMEDOUT sendto:ECONNRESET
    sendmsg:ECONNRESET recvfrom:ECONNRESET,EIO,ETIMEDOUT recvmsg:ECONNRESET poll:EINTR,ENOMEM
    getsockopt:ENOBUFS setsockopt:ENOPROTOOPT,ENOMEM fcntl:EINTR,EMFILE clone3:EAGAIN eventfd2:EMFILE'
harmed=()

words_of() { # SCENARIO: sets words
    case $1 in
    obtain) command_for obtain $name ;;
    renew) command_for renew $name --force ;;
    esac
}

# undisturbed SCENARIO CALLS...: its points, "CALL INDEX" each. How often it waits and reads is not the
# same each time: of three runs the one with the fewest.
undisturbed() {
    local scenario=$1 call from to i
    shift
    rm -f "$work/fewest"
    for i in 1 2 3; do
        fresh_storage
        [ "$scenario" = obtain ] || cm obtain $name || report 1 "$scenario: set-up: $(said)"
        words_of "$scenario"
        measure "$work/calls.log" "$CERTMESH" "$@" || report 1 "$scenario: undisturbed: $(said)"
        points "$work/calls.log" "$@" | while read -r call from to; do
            seq -f "$call %.0f" "$from" "$to"
        done >"$work/these"
        [ -s "$work/fewest" ] && [ "$(wc -l <"$work/fewest")" -le "$(wc -l <"$work/these")" ] ||
            mv "$work/these" "$work/fewest"
    done
    cat "$work/fewest"
}

# What is stored is what was there before, or all of the new. Sets now.
whole() { # SCENARIO
    local out
    if now=$(pair); then
        return 0
    fi
    out=$now now=
    [ "$1" = obtain ] && out=$(look absent $name) && return 0
    now=$out
    return 1
}

# harm SCENARIO WHAT CALL FAULT INDEX: WHAT is kill or fail
harm() {
    local scenario=$1 what=$2 before= now= rc took began_ms
    point="$scenario, $3 $5: $4"
    fresh_storage
    if [ "$scenario" = renew ]; then
        cm obtain $name || { report 1 "$point: set-up: $(said)"; return; }
        before=$(pair) || report 1 "$point: set-up: $before"
    fi
    words_of "$scenario"
    began_ms=$(date +%s%3N)
    (
        timeout -k 5 "$wall_s" strace -f -qq -o "$work/strace.log" -e trace="$3" \
            -e inject="$3:$4:when=$5" "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
        exit $?
    ) 2>/dev/null
    rc=$?
    if ! grep -qE 'INJECTED|killed by SIGKILL' "$work/strace.log"; then
        missed=$((missed + 1))
        [ $rc = 0 ] || report 1 "$point: nothing struck, but exit $rc: $(said)"
        return
    fi
    fired=$((fired + 1))
    took=$(($(date +%s%3N) - began_ms))
    [ "$took" -le "$slowest" ] || { slowest=$took slowest_point="$3 $5: $4"; }
    if [ "$what" = fail ]; then
        case $rc in
        0) survived=$((survived + 1)) ;;
        1 | [3-8]) [ -s "$work/out" ] ;;
        *) false ;;
        esac
        report $? "$point: exit $rc: $(said)"
    fi
    whole "$scenario"
    report $? "$point: exit $rc: not whole: $now"
    if [ $rc = 0 ]; then
        [ -n "$now" ] && [ "$now" != "$before" ]
        report $? "$point: exit 0, but nothing new is stored"
    fi
    harmed+=("$scenario|$storage|$before|$now|$point")
}

run_again() { # SCENARIO STORAGE BEFORE NOW POINT
    local scenario=$1 before=$3 now=$4 out
    storage=$2 point=$5
    case $scenario in
    obtain) cm obtain $name ;;
    # What was renewed already is not to be renewed again.
    renew) if [ "$now" = "$before" ]; then cm renew $name --force; else cm obtain $name; fi ;;
    esac
    report $? "$point: run again: $(said)"
    out=$(pair)
    report $? "$point: after the second run: $out"
    [ "$scenario" = obtain ] || [ "$out" != "$before" ]
    report $? "$point: the second run renewed nothing"
    [ "$scenario" = renew ] || [ -z "$now" ] || [ "$out" = "$now" ]
    report $? "$point: the second run obtained what was there"
    out=$(clean)
    report $? "$point: after the second run: $out"
}

# sweep WHAT SCENARIO LIMIT: so many points, spread over all there are
sweep() {
    local what=$1 scenario=$2 limit=$3 call index item error calls=() list
    fired=0 missed=0 survived=0 slowest=0 slowest_point=
    if [ "$what" = kill ]; then
        undisturbed "$scenario" "${talking[@]}" >"$work/points"
        list=$(sed 's/ / signal=KILL /' "$work/points")
    else
        # shellcheck disable=SC2086
        set -- $errors
        calls=("${@%%:*}")
        undisturbed "$scenario" "${calls[@]}" >"$work/points"
        list=$(for item; do
            for error in $(tr , ' ' <<<"${item#*:}"); do
                awk -v call="${item%%:*}" -v error="$error" '$1 == call { print call, "error=" error, $2 }' \
                    "$work/points"
            done
        done)
    fi
    while read -r call error index; do
        harm "$scenario" "$what" "$call" "$error" "$index" </dev/null
    done < <(take "$limit" <<<"$list")
    # How often a socket is read is not the same each time.
    [ $((missed * 3)) -le $((fired + missed)) ]
    report $? "$what, $scenario: $missed of $((fired + missed)) did not strike"
    echo "$what, $scenario in $SECONDS s: $fired points of $(wc -l <<<"$list"), $survived overcome," \
        "$missed did not strike, slowest $slowest ms ($slowest_point)"
    struck=$((struck + fired))
}

fleet_points() { # KIND
    local began item scenario url before now
    struck=0
    fleet_server "$1"
    # libpq keeps quiet about a failed send until it reads, and nobody answers: ten seconds each.
    [ "$mode" = full ] || [ "$1" != postgres ] || errors=${errors/sendto:ECONNRESET/}
    sweep kill obtain "$(sample 400 50)"
    sweep kill renew "$(sample 400 60)"
    sweep fail obtain "$(sample 300 20)"
    sweep fail renew "$(sample 300 30)"
    [ "$struck" -ge "$(sample 350 120)" ]
    report $? "only $struck points in all"
    sleep 16 # the lease of the last one
    began=$failed
    for item in "${harmed[@]}"; do
        IFS='|' read -r scenario url before now point <<<"$item"
        run_again "$scenario" "$url" "$before" "$now" "$point"
    done
    echo "run again in $SECONDS s: ${#harmed[@]} commands, $((failed - began)) failures"

    # A detector that cannot fail proves nothing: a torn pair, and a lock that is left.
    fresh_storage
    cm obtain $name
    report $? "negative control: $(said)"
    openssl ecparam -name prime256v1 -genkey -noout |
        look put "certificates/certmesh-local/$name/$name.key"
    ! whole renew
    report $? "negative control: a foreign key was not noticed: $now"
    mkfifo "$work/held"
    "$FAULT_TOOLS/fault_lease" "$storage" issue_cert_$name 5 held/key <>"$work/held" >"$work/holding" 2>&1 &
    local holder=$!
    for _ in $(seq 100); do
        ! grep -q held "$work/holding" || break
        sleep 0.02
    done
    ! clean >/dev/null
    report $? "negative control: a lock was not noticed"
    kill -KILL $holder
    wait $holder 2>/dev/null
}
