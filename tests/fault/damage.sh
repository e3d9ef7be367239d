# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For the parts that damage stored objects: the command with sanitizers, watched; the damage; an
# oracle that has nothing of certmesh. Sourced after common.sh.
# shellcheck disable=SC2034,SC2154

damage=$FAULT_TOOLS/damage
limit=20 # seconds for one command: longer is a hang
step=$(sample 1 7)
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
out=$work/out
cm_runs=0 damages=0
case="set-up"

# cm STORE SUBCOMMAND...: its exit code in $rc, all that it says in $out. A crash, a hang or a
# finding of the sanitizers counts as a failure here and now.
cm() {
    local store=$1
    shift
    timeout -k 1 "$limit" "$CERTMESH_ASAN" "$@" --root "$store" >"$out" 2>&1 </dev/null
    rc=$?
    cm_runs=$((cm_runs + 1))
    if [ "$rc" -gt 99 ] || grep -qE 'Sanitizer|runtime error|assertion' "$out"; then
        report 1 "$case: '$1' ended with $rc: $(head -c 2000 "$out")"
    fi
}
cm_in() { # STORE SUBCOMMAND...: with the local CA
    cm "$@" --internal
}

site() { # STORE NAME SUFFIX
    echo "$1/certificates/certmesh-local/$2/$2.$3"
}

# The oracle has nothing of certmesh: key, leaf, name and chain up to the local root.
sound() { # STORE NAME [ROOT]
    local crt key root=${3:-$1/certmesh/ca/local/root.crt}
    crt=$(site "$1" "$2" crt) key=$(site "$1" "$2" key)
    # openssl takes many minutes for a file with megabytes behind its certificate
    [ -f "$crt" ] && [ -f "$key" ] && [ "$(stat -c %s "$crt")" -lt 1000000 ] &&
        openssl pkey -in "$key" -check -noout >/dev/null 2>&1 &&
        [ "$(openssl x509 -in "$crt" -noout -pubkey 2>/dev/null)" = \
            "$(openssl pkey -in "$key" -pubout 2>/dev/null)" ] &&
        openssl verify -CAfile "$root" -untrusted "$crt" -verify_hostname "$2" "$crt" >/dev/null 2>&1
}

# A fresh copy of the base in $s, and the damage done to one object of it. Old enough that nobody
# takes it for being written just now.
s=$work/s
broken() { # BASE KIND FILE(below the store) [OTHER] [OLD]; 1: there is no such damage to it
    local how
    rm -rf "$s"
    cp -a "$1" "$s"
    "$damage" "$2" "$s/$3" "${4:--}" "${5:--}"
    how=$?
    [ "$how" != 3 ] || return 1
    report "$how" "$case: the damage was not done"
    [ ! -e "$s/$3" ] || touch -d '1 hour ago' "$s/$3"
    damages=$((damages + 1))
    return 0
}

mapfile -t kinds < <("$damage" list)
[ "${#kinds[@]}" -ge 40 ]
report $? "only ${#kinds[@]} kinds of damage"

# every KIND... of this sweep: all, or every fifth, beginning elsewhere with each object
turn=0
pick() {
    local i
    picked=()
    for ((i = turn % step; i < ${#kinds[@]}; i += step)); do
        picked+=("${kinds[i]}")
    done
    turn=$((turn + 1))
}

