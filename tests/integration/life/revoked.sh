#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A certificate is revoked at its CA while four processes serve it: the fleet replaces it once, and
# with a new key when the key is what was compromised.
. "$(dirname "$0")/common.sh"

lab_up lab LAB_OCSP=1 LAB_NONCEREJECT=0 LAB_VALIDITY=86400
# Short-lived answers, so that the truth is asked for again after ten seconds.
ocsp_ctl 'validity=20'
names=(v1.test v2.test other.test)
check "certificates" cm obtain "${names[@]}"
for i in 0 1 2 3; do start_node $i --no-ari "${names[@]}"; done
for i in 0 1 2 3; do
    check "node $i staples" wait_for 30 shows good wire_staple v1.test $i
    check "node $i staples the other" wait_for 30 shows good wire_staple v2.test $i
done
compromised() {
    find "$work/store/certificates" -name '*.key.compromised' | wc -l
}
public_of() {
    openssl pkey -in "$1" -pubout
}

# revoke NAME REASON: what happens then, everywhere
revoke() {
    local name=$1 old before i
    old=$(wire_serial "$name" 0)
    before=$(orders)
    openssl x509 -in "$(stored "$name" crt)" -out "$work/$name.old.crt"
    cp "$(stored "$name" key)" "$work/$name.old.key"
    check "$name is revoked at the CA: $2" cm revoke "$name" --yes --keep --reason "$2"
    stored_another() {
        [ -n "$(stored "$name" crt)" ] && ! cmp -s <(openssl x509 -in "$(stored "$name" crt)") \
            "$work/$name.old.crt"
    }
    check "$name: a replacement is stored" wait_for 40 stored_another
    new=$(openssl x509 -in "$(stored "$name" crt)" -noout -serial | cut -d= -f2 | tr A-F a-f |
        sed 's/^0*//')
    for i in 0 1 2 3; do
        wait_for 30 shows "$new good" wire "$name" $i
        tap_result $? "$name: node $i serves and staples it" \
            "$(wire "$name" $i), stored $new, revoked $old; $(tail -n 3 "$work/node.$i.log")"
    done
    # Those who notice late must not order once more.
    sleep 5
    is "$name: one order of the fleet" "$(($(orders) - before))" 1
    check "$name: the pair is good" pair_is_good "$name"
    [ "$(events cert_ocsp_revoked "name=$name")" -ge 1 ]
    tap_result $? "$name: the program is told" "$(cat "$work"/node.[0-9])"
}

revoke v1.test superseded
is "v1.test: no key is put aside" "$(compromised)" 0

revoke v2.test keyCompromise
[ "$(public_of "$work/v2.test.old.key")" != "$(public_of "$(stored v2.test key)")" ]
tap_result $? "v2.test: another key"
is "v2.test: the old one is put aside, once" "$(compromised)" 1
check "v2.test: it is the old one" cmp "$work/v2.test.old.key" \
    "$(find "$work/store/certificates" -name 'v2.test.key.compromised')"
like "the other name is as it was" "$(wire other.test 2)" ' good$'
for i in 0 1 2 3; do
    stop_serve node.$i
    is "node $i ends well" "$served_rc" 0
done

# Nobody was there when it was revoked: who starts notices, and keeps no key that was compromised.
before=$(orders)
check "revoked while nobody serves it" cm revoke other.test --yes --keep --reason keyCompromise
old=$(stored other.test key)
cp "$old" "$work/other.old.key"
start_node 0 --no-ari --reuse-key "${names[@]}"
another_key() {
    ! cmp -s "$(stored other.test key)" "$work/other.old.key"
}
check "replaced after the start" wait_for 40 another_key
check "stapled" wait_for 30 shows good wire_staple other.test 0
is "one order" "$(($(orders) - before))" 1
is "put aside, too" "$(compromised)" 2
stop_serve node.0
is "no lock is left" "$(find "$work/store/locks" -name '*.lock' | wc -l)" 0
tap_done
