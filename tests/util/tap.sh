# SPDX-License-Identifier: Apache-2.0
# TAP for tests in bash: source it, call check/is/like, end with tap_done.
# shellcheck shell=bash

tap_n=0
tap_failed=0

tap_result() { # rc description [detail]
    tap_n=$((tap_n + 1))
    if [ "$1" = 0 ]; then
        echo "ok $tap_n - $2"
    else
        tap_failed=$((tap_failed + 1))
        echo "not ok $tap_n - $2"
        [ -z "${3:-}" ] || printf '%s\n' "$3" | head -n 40 | sed 's/^/# /'
    fi
}

# check DESCRIPTION COMMAND...: passes when the command succeeds; its output is shown if not.
check() {
    local what=$1 out rc
    shift
    out=$("$@" 2>&1)
    rc=$?
    tap_result "$rc" "$what" "exit $rc: $* 
$out"
}

# fails DESCRIPTION WANTED_RC PATTERN COMMAND...: the command must exit so and say so.
fails() {
    local what=$1 want=$2 pattern=$3 out rc
    shift 3
    out=$("$@" 2>&1)
    rc=$?
    if [ "$rc" = "$want" ] && grep -qE -- "$pattern" <<<"$out"; then
        tap_result 0 "$what"
    else
        tap_result 1 "$what" "exit $rc (wanted $want), wanted text /$pattern/, got:
$out"
    fi
}

is() { # DESCRIPTION GOT WANTED
    [ "$2" = "$3" ]
    tap_result $? "$1" "got:    $2
wanted: $3"
}

like() { # DESCRIPTION TEXT PATTERN
    grep -qE -- "$3" <<<"$2"
    tap_result $? "$1" "wanted /$3/ in:
$2"
}

# at_most DESCRIPTION GOT MAX
at_most() {
    [ "$2" -le "$3" ] 2>/dev/null
    tap_result $? "$1" "got $2, wanted at most $3"
}

tap_done() {
    echo "1..$tap_n"
    [ "$tap_failed" = 0 ]
    exit
}
