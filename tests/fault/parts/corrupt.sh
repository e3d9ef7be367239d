#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Every kind of object in storage, damaged in some forty ways: no crash, no hang, nobody else's
# certificate, other names untouched, and either mended by itself or a message that names the object.
# The command is the one with sanitizers. docs/recovery.md says what is expected of each kind.
. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/../damage.sh"

others_untouched() { # BASE: no file of another name has changed
    local f
    for f in "$1"/certificates/certmesh-local/{b,c}.test/*; do
        cmp -s "$f" "$s/${f#"$1"/}" || return 1
    done
}

# ------------------------------------------------------------ certificates

base=$work/base older=$work/older
case="set-up"
mkdir -m 700 "$base"
cm_in "$base" obtain a.test b.test c.test --quiet
report "$rc" "set-up: $(cat "$out")"
cp -a "$base" "$older"
cm_in "$base" renew a.test b.test --force --quiet
report "$rc" "set-up: $(cat "$out")"
sound "$base" a.test
report $? "set-up: the oracle refuses what is sound"

# Is the stored pair still all that it was, to the eye of a stranger?
one_site() { # SUFFIX KIND
    local suffix=$1 kind=$2 rel other old
    case="a.test.$suffix, $kind"
    rel=certificates/certmesh-local/a.test/a.test.$suffix
    other=$(site "$base" b.test "$suffix")
    old=$(site "$older" a.test "$suffix")
    broken "$base" "$kind" "$rel" "$other" "$old" || return 0
    if [ "$kind" = other_both ]; then
        cp "$(site "$base" b.test key)" "$(site "$s" a.test key)"
        cp "$(site "$base" b.test crt)" "$(site "$s" a.test crt)"
    fi
    cp -a "$s" "$s.damaged"
    sound "$s" a.test
    local was_sound=$?

    cm "$s" list
    report "$rc" "$case: list ends with $rc: $(cat "$out")"
    [ "$(grep -cE '^(b|c)\.test .*internal' "$out")" = 2 ]
    report $? "$case: list does not show the others once each: $(cat "$out")"
    cm "$s" show a.test
    # What no key, name or signature of ours covers is for the CA's root to judge: the last
    # certificate of the chain.
    if [ "$was_sound" != 0 ] && ! grep -q 'Malformed' "$out" && [ -e "$(site "$s" a.test crt)" ]; then
        in_last_certificate "$s"
        report $? "$case: show takes it for sound: $(cat "$out")"
    elif [ "$was_sound" != 0 ] && [ "$suffix" != json ]; then
        grep -q "certificates/certmesh-local/a.test" "$out" ||
            grep -qE "a\.test\.(crt|key)" "$out"
        report $? "$case: show does not name the object: $(cat "$out")"
    fi
    if [ "$was_sound" = 0 ]; then
        grep -q Malformed "$out" && [ "$suffix" = json ]
        report $((1 - $?)) "$case: show calls a pair malformed for its metadata: $(cat "$out")"
    fi
    cm_in "$s" clean
    report "$rc" "$case: clean ends with $rc: $(cat "$out")"
    others_untouched "$base"
    report $? "$case: clean changed another name"
    cm_in "$s" revoke a.test --yes
    [ "$rc" != 0 ]
    report $? "$case: the local CA cannot revoke, but that succeeded"
    cmp -s "$(site "$s" a.test key)" "$(site "$s.damaged" a.test key)" 2>/dev/null ||
        [ ! -f "$(site "$s.damaged" a.test key)" ]
    report $? "$case: looking at it changed the key"

    cm_in "$s" obtain a.test
    after_repair "$suffix" "$kind" obtain
    rm -rf "$s"
    cp -a "$s.damaged" "$s"
    cm_in "$s" renew a.test --force
    after_repair "$suffix" "$kind" renew
    rm -rf "$s"
    mv "$s.damaged" "$s"
    cm_in "$s" renew
    if [ "$kind" != directory_full ] && [ -e "$(site "$s" a.test crt)" ]; then
        report "$rc" "$case: 'renew' of all ends with $rc: $(cat "$out")"
    fi
    others_untouched "$base"
    report $? "$case: 'renew' of all changed another name"
    rm -rf "$s.damaged"
}

after_repair() { # SUFFIX KIND COMMAND: mended, or a message that names the object
    if [ "$2" = directory_full ]; then
        [ "$1" = json ] && [ "$3" = obtain ] && return # not looked at: the pair is whole
        [ "$rc" != 0 ] && grep -q "a.test.$1" "$out"
        report $? "$case: $3 does not name the directory in its way ($rc): $(cat "$out")"
        [ -f "$(site "$s" a.test "$1")/precious" ]
        report $? "$case: $3 removed what lay there"
        return
    fi
    report "$rc" "$case: $3 ends with $rc: $(cat "$out")"
    sound "$s" a.test || { [ "$3" = obtain ] && in_last_certificate "$s"; }
    report $? "$case: after $3 the pair is not sound: $(cat "$out")"
    others_untouched "$base"
    report $? "$case: $3 changed another name"
}

# Is all that is wrong with the pair beyond the leaf?
in_last_certificate() { # STORE
    local crt key leaf=$work/leaf.pem
    crt=$(site "$1" a.test crt) key=$(site "$1" a.test key)
    [ "$(stat -c %s "$crt")" -lt 1000000 ] && openssl x509 -in "$crt" -out "$leaf" 2>/dev/null &&
        [ "$(openssl x509 -in "$leaf" -noout -pubkey)" = \
            "$(openssl pkey -in "$key" -pubout 2>/dev/null)" ] &&
        openssl verify -CAfile "$base/certmesh/ca/local/root.crt" \
            -untrusted "$base/certmesh/ca/local/intermediate.crt" \
            -verify_hostname a.test "$leaf" >/dev/null 2>&1
}

began_failed=$failed
for suffix in key crt json; do
    pick
    for kind in "${picked[@]}"; do
        one_site "$suffix" "$kind"
    done
    [ "$mode" = sample ] || echo "  .$suffix: $damages damages so far"
done
echo "certificates: $damages damages, $cm_runs commands, $((failed - began_failed)) failures"

# ----------------------------------------------------------- the local CA

ca_file() { # FILE KIND
    local rel=certmesh/ca/local/$1 kind=$2 other root_was
    case="$1, $kind"
    case $1 in *.crt) other=$(site "$base" b.test crt) ;; *) other=$(site "$base" b.test key) ;; esac
    broken "$base" "$kind" "$rel" "$other" "-" || return 0
    root_was=$base/certmesh/ca/local/root.crt
    cm_in "$s" obtain new.test
    if [ "$rc" = 0 ]; then
        # Whatever it did, clients that trusted the root before must be content.
        sound "$s" new.test "$root_was"
        report $? "$case: a certificate that nobody trusts: $(cat "$out")"
    else
        grep -qE "certmesh/ca/local/(root|intermediate)\.(crt|key)" "$out"
        report $? "$case: obtain does not name the object ($rc): $(cat "$out")"
        [[ $1 = root.* ]] || [ "$kind" = directory_full ]
        report $? "$case: obtain fails although the root is whole: $(cat "$out")"
    fi
    if [ -f "$s/certmesh/ca/local/root.crt" ] && [[ $1 = intermediate.* ]]; then
        cmp -s "$s/certmesh/ca/local/root.crt" "$root_was" &&
            cmp -s "$s/certmesh/ca/local/root.key" "$base/certmesh/ca/local/root.key"
        report $? "$case: the root was replaced"
    elif [ "$1" = root.crt ]; then
        cmp -s "$s/certmesh/ca/local/root.key" "$base/certmesh/ca/local/root.key"
        report $? "$case: the root's key was thrown away"
    elif [ "$1" = root.key ]; then
        cmp -s "$s/certmesh/ca/local/root.crt" "$root_was"
        report $? "$case: the root's certificate was thrown away"
    fi
    cm_in "$s" trust --out "$work/trust.pem"
    if [ "$rc" = 0 ]; then
        openssl x509 -in "$work/trust.pem" -outform DER 2>/dev/null |
            cmp -s - <(openssl x509 -in "$root_was" -outform DER)
        report $? "$case: trust gives another root"
    else
        grep -qE "certmesh/ca/local/(root|intermediate)\.(crt|key)" "$out"
        report $? "$case: trust does not name the object ($rc): $(cat "$out")"
    fi
}

damages=0 cm_runs=0 began_failed=$failed
for file in root.crt root.key intermediate.crt intermediate.key; do
    pick
    for kind in "${picked[@]}"; do
        ca_file "$file" "$kind"
    done
done
echo "local CA: $damages damages, $cm_runs commands, $((failed - began_failed)) failures"
# --------------------------------------------------------- negative controls

control() { # TEXT COMMAND...: it has to fail
    local text=$1
    shift
    ! "$@"
    report $? "negative control: $text was not noticed"
}
case="negative control"
broken "$base" other certificates/certmesh-local/a.test/a.test.key "$(site "$base" b.test key)"
control "a foreign key" sound "$s" a.test
broken "$base" flip_3 certificates/certmesh-local/b.test/b.test.crt
control "a change of another name" others_untouched "$base"
# A command that dies of a signal, and one that hangs, are failures of their own.
printf '#!/bin/sh\nkill -SEGV $$\n' >"$work/crash"
printf '#!/bin/sh\nexec sleep 60\n' >"$work/hang"
chmod +x "$work/crash" "$work/hang"
for program in crash hang; do
    before=$failed
    limit=1
    { CERTMESH_ASAN=$work/$program cm "$base" list >"$work/control"; } 2>/dev/null
    noticed=$((failed - before))
    failed=$before
    [ "$noticed" = 1 ]
    report $? "negative control: a $program was not noticed"
done
finish
