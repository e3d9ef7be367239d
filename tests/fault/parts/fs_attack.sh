#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What a local user can do to file storage who may write there: links, FIFOs, devices, other kinds,
# other owners and modes in place of each component, and components swapped while we work. Nothing
# outside is read or changed, nothing hangs, nothing is made that others can use, errors name the
# object. As root (so that other owners and devices can be made) and as an ordinary user (who is
# stopped by modes).
. "$(dirname "$0")/../common.sh"

tool=$FAULT_TOOLS/fs_attack
export ASAN_OPTIONS=detect_leaks=1
[ "$(id -u)" = 0 ]
report $? "this part has to run as root: other owners and devices cannot be made otherwise"
user=65534 # nobody

attack() { # USER KIND [N]: its last line in $said
    local who=$1 kind=$2 dir limit
    shift 2
    limit=$(sample 1200 60)
    dir=$work/$who.$kind
    mkdir -m 700 "$dir"
    chown "$who" "$dir"
    setpriv --reuid "$who" --regid "$who" --clear-groups timeout -k 1 "$limit" \
        "$tool" ${control:+--naive} "$kind" "$dir" "$@" >"$work/out" 2>&1
    rc=$?
    said=$(tail -n 1 "$work/out")
    chmod -R u+rwx "$dir" 2>/dev/null
    rm -rf "$dir"
}
control=
chmod 711 "$work"

total=0
attacks() { # USER KIND AT-LEAST [N]
    local n
    attack "$1" "$2" "${@:4}"
    report "$rc" "$2 as user $1 ($rc): $(grep -vE '^race' "$work/out" | head -n 12)"
    n=${said%% *}
    [[ $n =~ ^[0-9]+$ ]] && [ "$n" -ge "$3" ]
    report $? "$2 as user $1: only '$said'"
    [[ $n =~ ^[0-9]+$ ]] && total=$((total + n))
    [ "$2" != race ] || grep '^race' "$work/out"
    echo "$2 as user $1: $said"
}

attacks 0 matrix 150
attacks $user matrix 100
attacks 0 umask 10
attacks $user umask 10
attacks 0 deleted 1
attacks $user modes $(sample 2500 50) $(sample 1 47)
attacks 0 modes $(sample 350 30) $(sample 7 73)
attacks $user race 5 $(sample 100000 5000)
[ "$total" -ge 300 ]
report $? "only $total cases in all"

# The detectors: operations that follow links must be found out.
control=1
for kind in matrix race; do
    attack 0 $kind 5000
    if [ $kind = matrix ]; then
        [ "$rc" = 1 ] && grep -q 'something outside was changed' "$work/out" &&
            grep -q 'something outside was read' "$work/out"
    else # who wins a race is a matter of luck
        [ "$rc" = 1 ] && grep -q 'something outside was' "$work/out"
    fi
    report $? "negative control: $kind found nothing ($rc): $said"
done
control=

# A stranger's eye: what the command opens, by the kernel's word.
store=$work/store
outside=$work/outside
traced() { # SUBCOMMAND...: its exit code in $rc, what was opened outside in $seen
    ASAN_OPTIONS=detect_leaks=0 strace -f -qq -y -o "$work/strace" -e trace=%file,read,pread64,write,getdents64 \
        timeout 20 "$CERTMESH" "$@" --root "$store" >"$work/out" 2>&1
    rc=$?
    # A result that is a descriptor of something outside; looking at a link itself is none.
    seen=$(grep -E "= [0-9]+<$outside|(read|pread64|write|getdents64)\([0-9]+<$outside" \
        "$work/strace")
}
mkdir -m 700 "$store" "$outside"
"$CERTMESH" obtain a.test b.test --internal --quiet --root "$store" >"$work/out" 2>&1
report $? "set-up: $(cat "$work/out")"
sites=$store/certificates/certmesh-local
cp -a "$sites/a.test" "$outside/a.test"
rm -rf "$sites/a.test"
ln -s "$outside/a.test" "$sites/a.test"
ln -s "$outside/a.test/a.test.key" "$sites/b.test/extra.key"
before=$(find "$outside" -printf '%p %s %T@ %m %n\n' | sort)
for command in list "show b.test" "obtain a.test --internal" "renew --force b.test --internal" \
    "clean --internal" "renew a.test --force --internal"; do
    # shellcheck disable=SC2086
    traced $command
    [ -z "$seen" ]
    report $? "certmesh $command opens what lies outside: $seen"
    [ -s "$work/strace" ]
    report $? "certmesh $command was not traced"
    case $command in
    *a.test*)
        [ "$rc" != 0 ] && grep -q "a.test' is a symbolic link" "$work/out"
        report $? "certmesh $command does not name the link ($rc): $(cat "$work/out")"
        ;;
    *)
        report "$rc" "certmesh $command ends with $rc: $(cat "$work/out")"
        ;;
    esac
done
[ "$before" = "$(find "$outside" -printf '%p %s %T@ %m %n\n' | sort)" ]
report $? "something outside was changed by a command"
seen=$(ASAN_OPTIONS=detect_leaks=0 strace -f -qq -y -o "$work/strace" -e trace=%file,read \
    cat "$sites/a.test/a.test.crt" >/dev/null; grep -cE "= [0-9]+<$outside" "$work/strace")
[ "$seen" -ge 1 ]
report $? "negative control: the trace does not show what cat opens outside"
echo "commands under strace: nothing outside opened; $total cases of attack in all"
finish
