# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For the parts that harm a run and look at what is left: commands on $storage, whatever kind it is,
# against the local CA or a Pebble, and what must hold of the storage afterwards. Source it after
# common.sh.

name=fault.test
wall_s=120 # of one command: who takes longer hangs
export ASAN_OPTIONS=detect_leaks=0 # a leak check cannot run under strace

for program in strace openssl certtool; do
    command -v $program >/dev/null || { echo "fault: $program is missing" >&2; exit 1; }
done

ca=local PEBBLE_LOG=

# From here on a Pebble of its own issues. It refuses no nonce, as requests are counted.
use_pebble() { # [LAB_VAR=VALUE]...
    local vars
    vars=$(env LAB_OWNER=$$ LAB_NONCEREJECT=0 "$@" "$root/tests/util/lab" up "$work/lab") || {
        echo "fault: the lab did not start" >&2
        exit 1
    }
    at_exit "$root/tests/util/lab" down "$work/lab"
    eval "$vars"
    ca=pebble
}

command_for() { # SUBCOMMAND...: sets words
    words=("$@" --quiet --storage "$storage")
    if [ "$ca" = local ]; then
        words+=(--internal)
        return
    fi
    case $1 in
    show | clean) return ;;
    esac
    words+=(--ca "$ACME_DIR" --ca-root "$LAB_CA" --email ops@a.test)
    case $1 in
    obtain | renew)
        words+=(--agree --listen 127.0.0.1 --http-port "$HTTP01_PORT" --tls-port "$TLSALPN_PORT") ;;
    account) words+=(--agree) ;;
    esac
}

cm() { # SUBCOMMAND...: of the release build; its words are in $work/out
    local words
    command_for "$@"
    timeout -k 5 "$wall_s" "$CERTMESH" "${words[@]}" >"$work/out" 2>&1
}

said() {
    tr '\n' ' ' <"$work/out"
}

look() { # WHAT...: the tool that looks at storage from outside
    local what=$1
    shift
    "$FAULT_TOOLS/fault_store" "$what" "$storage" "$@" 2>&1
}

pair() { # prints the serial number, or what is wrong
    if [ "$ca" = local ]; then
        look pair "$name"
    else
        look pair "$name" "$PEBBLE_ROOT"
    fi
}

# Nothing of a run is left: no journal, no challenge, no lock; in files no record of a commit either.
clean() {
    look clean "$name" || return 1
    [ -n "$store" ] || return 0
    local left
    left=$(find "$store/locks" "$store/certmesh/redo" -type f 2>/dev/null)
    [ -z "$left" ] || { echo "left: $left"; return 1; }
}

# Who takes up an order that was validated already presents no challenge, and so takes none back:
# that of the dead is for the cleaner, an hour later. WHAT IS LEFT
clean_later() {
    [ -n "$store" ] && ! grep -v '/challenge_tokens/' <<<"$1" || return 1
    find "$store/acme" -path '*/challenge_tokens/*' -exec touch -d '-2 hours' {} +
    cm clean && clean && echo later
}

# ---- what Pebble was asked for since the last mark

mark() {
    [ "$ca" = local ] || log_mark=$(wc -l <"$PEBBLE_LOG")
}

since_mark() {
    tail -n +$((log_mark + 1)) "$PEBBLE_LOG"
}

orders() {
    since_mark | grep -c 'Added order'
}

# An order that was made although an earlier one had been finalized is a certificate too many.
order_after_finalize() {
    since_mark | awk '/POST \/finalize-order\//{ done = 1 } /Added order/ && done { found = 1 }
        END { exit !found }'
}

# ----

# What a dead process was writing aside goes with the sweep, hours later. Here they have passed.
hours_pass() {
    [ -z "$store" ] || find "$store/certmesh/tmp" -type f -exec touch -d '-7 hours' {} + 2>/dev/null
}

no_temporaries() {
    [ -z "$store" ] || [ -z "$(find "$store/certmesh/tmp" -type f 2>/dev/null)" ]
}

# A storage of a thousand points would fill the disk.
drop_storage() {
    [ -z "$store" ] || rm -rf "$store"
}

# ---- which calls a command makes

# measure LOG COMMAND CALLS...: run it once, undisturbed, and note its calls.
measure() {
    local log=$1 program=$2
    shift 2
    timeout -k 5 "$wall_s" strace -f -qq -o "$log" -e trace="execve,openat,connect,$(IFS=,; echo "$*")" "$program" "${words[@]}" \
        >"$work/out" 2>&1
}

# points LOG CALLS...: "CALL FROM TO" for each call that happens. TO is how often, in the thread that
# makes it most often, since strace counts per thread; FROM leaves out how the program is loaded,
# before it comes to the storage.
points() {
    local log=$1
    shift
    awk -v calls="$*" -v storage="${store:-connect(}" '
        BEGIN { n = split(calls, list, " "); for (i = 1; i <= n; i++) want[list[i]] = 1 }
        NR == 1 { main = $1 }
        index($0, storage) { arrived = 1 }
        {
            call = $2
            sub(/\(.*/, "", call)
            if (!(call in want))
                next
            if (++count[$1 " " call] > most[call])
                most[call] = count[$1 " " call]
            if (!arrived && $1 == main)
                loading[call]++
        }
        END {
            for (i = 1; i <= n; i++)
                if (most[list[i]] > loading[list[i]])
                    print list[i], loading[list[i]] + 1, most[list[i]]
        }' "$log"
}

# take LIMIT: of the lines that come in, so many, spread evenly.
take() {
    awk -v limit="$1" '
        { line[NR] = $0 }
        END { for (i = 1; i <= NR; i++)
                  if (NR <= limit || int(i * limit / NR) > int((i - 1) * limit / NR)) print line[i] }'
}
