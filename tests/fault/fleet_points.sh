# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154
#
# For the parts that kill a command, or let a call of its fail, at its talk with a storage that is a
# server. Whoever dies leaves his lock behind for the rest of its lease: so first all the harm is
# done, each in a place of its own, then the leases end, then all commands are run again.
#
# kill: signal 9 at a call. fail: a call fails and nothing else happens, by strace. net: it fails as the
# network fails, and the connection with it where that is what the error means, by net_fault.c.
. "$here/fleet.sh"
. "$here/storage.sh"

talking=(socket connect sendto recvfrom sendmsg recvmsg poll write close setsockopt fcntl)
errors='socket:EMFILE,ENOMEM connect:ECONNREFUSED,ENETUNREACH,ETIMEDOUT sendto:ECONNRESET
    sendmsg:ECONNRESET recvfrom:ECONNRESET,EIO,ETIMEDOUT recvmsg:ECONNRESET poll:EINTR,ENOMEM
    getsockopt:ENOBUFS setsockopt:ENOPROTOOPT,ENOMEM fcntl:EINTR,EMFILE clone3:EAGAIN eventfd2:EMFILE'
net_errors='socket:EMFILE,ENFILE,ENOBUFS,ENOMEM,EACCES
    connect:ECONNREFUSED,ECONNRESET,ETIMEDOUT,EHOSTUNREACH,ENETUNREACH,EADDRNOTAVAIL,EAGAIN
    later:ECONNREFUSED,ECONNRESET,ETIMEDOUT,EHOSTUNREACH
    send:ECONNRESET,EPIPE,ETIMEDOUT,EHOSTUNREACH,EINTR,EAGAIN,ENOBUFS
    recv:ECONNRESET,ETIMEDOUT,EHOSTUNREACH,END,EINTR,EAGAIN,ENOMEM
    poll:EINTR,ENOMEM'

words_of() { # SCENARIO: sets words
    case $1 in
    obtain) command_for obtain $name ;;
    renew) command_for renew $name --force ;;
    esac
}

# One run undisturbed, and its points: CALL... for strace, none for net_fault.
points_of_one() {
    local call from to
    if [ $# = 0 ]; then
        rm -f "$work/counts"
        timeout -k 5 "$wall_s" env LD_PRELOAD="$FAULT_TOOLS/net_fault.so" NET_FAULT_COUNT="$work/counts" \
            "$CERTMESH" "${words[@]}" >"$work/out" 2>&1 || report 1 "undisturbed: $(said)"
        awk '{ for (i = 1; i <= $2; i++) print $1, i }' "$work/counts"
        return
    fi
    measure "$work/calls.log" "$CERTMESH" "$@" || report 1 "undisturbed: $(said)"
    points "$work/calls.log" "$@" | while read -r call from to; do
        seq -f "$call %.0f" "$from" "$to"
    done
}

# undisturbed SCENARIO CALLS...: its points, "CALL INDEX" each. How often it waits and reads is not the
# same each time: of three runs the one with the fewest.
undisturbed() {
    local scenario=$1
    shift
    rm -f "$work/fewest"
    for _ in 1 2 3; do
        fresh_storage
        [ "$scenario" = obtain ] || cm obtain $name || report 1 "$scenario: set-up: $(said)"
        words_of "$scenario"
        points_of_one "$@" >"$work/these"
        [ -s "$work/fewest" ] && [ "$(wc -l <"$work/fewest")" -le "$(wc -l <"$work/these")" ] ||
            mv "$work/these" "$work/fewest"
    done
    cat "$work/fewest"
}

# Lines of the standard input to FUNCTION WORD..., in several processes, each with a folder of its own
# in $work, and their counts.
spread() { # LABEL FUNCTION
    local label=$1 each=$2 n place pids=()
    cat >"$work/lines"
    for ((n = 0; n < workers; n++)); do
        place=$work/$label.$n
        mkdir "$place"
        (
            awk -v n=$n -v of=$workers 'NR % of == n' "$work/lines" >"$place/lines"
            : >"$place/harmed"
            work=$place passed=0 failed=0 fired=0 missed=0 survived=0 slowest=0 slowest_point=none
            while IFS='|' read -ra these <&7; do
                $each "${these[@]}" </dev/null
            done 7<"$place/lines"
            echo "$passed $failed $fired $missed $survived $slowest $slowest_point" >"$place/counts"
        ) >"$place/said" 2>&1 &
        pids+=($!)
    done
    wait "${pids[@]}"
    for ((n = 0; n < workers; n++)); do
        place=$work/$label.$n
        cat "$place/said" "$place/harmed" | grep '^FAILED'
        cat "$place/harmed" >>"$work/harmed"
        take_counts <"$place/counts" || report 1 "$label: a process of the sweep ended before its time"
    done
}

take_counts() {
    local a b c d e f g
    read -r a b c d e f g || return 1
    passed=$((passed + a)) failed=$((failed + b)) fired=$((fired + c)) missed=$((missed + d))
    survived=$((survived + e))
    [ "$f" -le "$slowest" ] || { slowest=$f slowest_point=$g; }
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

# The command with one fault; sets rc. WHAT CALL FAULT INDEX
struck() {
    rm -f "$work/strace.log"
    if [ "$1" = net ]; then
        timeout -k 5 "$wall_s" env LD_PRELOAD="$FAULT_TOOLS/net_fault.so" NET_FAULT="$2:$4:$3" \
            NET_FAULT_LOG="$work/strace.log" "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
        rc=$?
    else
        (
            timeout -k 5 "$wall_s" strace -f -qq -o "$work/strace.log" -e trace="$2" \
                -e inject="$2:$3:when=$4" "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
            exit $?
        ) 2>/dev/null
        rc=$?
    fi
    grep -qsE 'INJECTED|killed by SIGKILL' "$work/strace.log"
}

# harm SCENARIO WHAT CALL FAULT INDEX: WHAT is kill, fail or net
harm() {
    local scenario=$1 what=$2 before= now= rc took began_ms
    point="$what, $scenario, $3 $5: $4"
    fresh_storage
    if [ "$scenario" = renew ]; then
        cm obtain $name || { report 1 "$point: set-up: $(said)"; return; }
        before=$(pair) || report 1 "$point: set-up: $before"
    fi
    words_of "$scenario"
    began_ms=$(date +%s%3N)
    if ! struck "$what" "$3" "$4" "$5"; then
        missed=$((missed + 1))
        [ $rc = 0 ] || report 1 "$point: nothing struck, but exit $rc: $(said)"
        return
    fi
    fired=$((fired + 1))
    took=$(($(date +%s%3N) - began_ms))
    [ "$took" -le "$slowest" ] || { slowest=$took slowest_point="$3 $5: $4"; }
    if [ "$what" != kill ]; then
        case $rc in
        0) survived=$((survived + 1)) ;;
        1 | [3-8]) [ -s "$work/out" ] && [ "$what:$4" != net:EINTR ] && [ "$what:$4" != net:SHORT ] ;;
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
    echo "$scenario|$storage|$before|$now|$point" >>"$work/harmed"
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

# each_error ERRORS: "CALL ERROR INDEX" for every point in $work/points
each_error() {
    local item error
    for item in $1; do
        for error in $(tr , ' ' <<<"${item#*:}"); do
            awk -v call="${item%%:*}" -v error="$error" '$1 == call { print call, error, $2 }' \
                "$work/points"
        done
    done
}

# sweep WHAT SCENARIO LIMIT: so many points, spread over all there are
sweep() {
    local what=$1 scenario=$2 limit=$3 calls=() list began=$SECONDS
    fired=0 missed=0 survived=0 slowest=0 slowest_point=
    case $what in
    kill)
        undisturbed "$scenario" "${talking[@]}" >"$work/points"
        list=$(sed 's/ / signal=KILL /' "$work/points")
        ;;
    fail)
        # shellcheck disable=SC2086
        set -- $errors
        calls=("${@%%:*}")
        undisturbed "$scenario" "${calls[@]}" >"$work/points"
        list=$(each_error "$errors" | sed 's/ / error=/')
        ;;
    net)
        undisturbed "$scenario" >"$work/points"
        list=$(each_error "$net_errors")
        ;;
    esac
    {
        take "$limit" <<<"$list"
        [ "$what" != net ] || printf '%s\n' 'send SHORT 0' 'recv SHORT 0'
    } | sed "s/^/$scenario $what /; s/ /|/g" >"$work/plan"
    spread "${what}_$scenario" harm <"$work/plan"
    # How often a socket is read is not the same each time.
    [ $((missed * 3)) -le $((fired + missed)) ]
    report $? "$what, $scenario: $missed of $((fired + missed)) did not strike"
    echo "$what, $scenario in $((SECONDS - began)) s: $fired points of $(wc -l <<<"$list"), $survived overcome," \
        "$missed did not strike, slowest $slowest ms ($slowest_point)"
    all_fired=$((all_fired + fired))
}

fleet_points() { # KIND
    local began=$SECONDS before now holder
    all_fired=0
    workers=$(sample 4 2)
    fleet_server "$1"
    : >"$work/harmed"
    sweep kill obtain "$(sample 2000 50)"
    sweep kill renew "$(sample 2000 60)"
    sweep fail obtain "$(sample 2000 15)"
    sweep fail renew "$(sample 2000 20)"
    sweep net obtain "$(sample 2000 30)"
    sweep net renew "$(sample 2000 30)"
    [ "$all_fired" -ge "$(sample 1000 150)" ]
    report $? "only $all_fired points in all"
    sleep 16 # the lease of the last one
    began=$failed
    spread again run_again <"$work/harmed"
    echo "run again, all in all $SECONDS s: $(grep -c . "$work/harmed") commands, $((failed - began)) failures"

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
    holder=$!
    for _ in $(seq 100); do
        ! grep -q held "$work/holding" || break
        sleep 0.02
    done
    ! clean >/dev/null
    report $? "negative control: a lock was not noticed"
    kill -KILL $holder
    wait $holder 2>/dev/null
}
