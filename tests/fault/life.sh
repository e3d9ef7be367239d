# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For the parts about what time does to certificates: life_served as a release build, the work of
# the maintenance done once, and what must hold of the storage afterwards. Source it after common.sh.
# shellcheck disable=SC2154

. "$here/storage.sh"
life=$root/tests/integration/life

# The release build has no tests; what it installs is enough for a program that uses the public
# interface. The one with sanitizers is built with the tests.
build_served() {
    local lib
    lib=$(cd "$(dirname "$CERTMESH")/../lib" && pwd)
    # shellcheck disable=SC2046
    "${CC:-gcc}" -std=c11 -D_GNU_SOURCE -O2 -I "$root/lib/api" -o "$work/life_served" \
        "$life/life_served.c" -L "$lib" -Wl,-rpath,"$lib" -lcertmesh -lpthread \
        $(pkg-config --cflags --libs gnutls) || {
        echo "fault: life_served cannot be built" >&2
        exit 1
    }
    served=$work/life_served
    served_asan=$FAULT_TOOLS/../integration/life/life_served
    [ -x "$served_asan" ] || {
        echo "fault: there is no $served_asan" >&2
        exit 1
    }
}

# served_words [OPTION...]: sets words, to run after $served
served_words() {
    words=(--storage "$storage" --ca "$ACME_DIR" --ca-root "$LAB_CA" --http-port "$HTTP01_PORT"
        --tls-port "$TLSALPN_PORT" "$@")
}

# ---- scenarios of one run of the maintenance

# A certificate that expired years ago, for the cleaner.
put_expired() {
    local dir=certificates/127.0.0.1-gone/gone.test part
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

prepare_life() {
    fresh_storage
    if [ $scenario = ondemand ]; then
        cm account register
        report $? "$scenario: set-up: $(said)"
        before=
        mark
        return
    fi
    cm obtain $name && case $scenario in
    replace)
        cp "$(stored_key)" "$work/compromised.key" && cm revoke $name --yes --keep --reason keyCompromise
        ;;
    clean) put_expired ;;
    esac
    report $? "$scenario: set-up: $(said)"
    # It is due as soon as its first second is over, the part that is to be left being nearly all.
    [ $scenario != renew ] || sleep 1.1
    # What was stored just now is not renewed: that would be a loop.
    find "$store/certificates" -type f -exec touch -d '-2 days' {} +
    before=$(pair 2>/dev/null)
    mark
}

stored_key() {
    find "$store/certificates" -name "$name.key" | head -n 1
}

life_command() { # sets words
    case $scenario in
    renew) served_words --once --no-ari --no-ocsp --ratio 0.9999999 $name ;;
    staple) served_words --once --no-ari $name ;;
    replace) served_words --once --no-ari $name ;;
    clean) served_words --once --no-ari --no-ocsp --clean 1 $name ;;
    ondemand) served_words --once --no-ari --no-ocsp --on-demand $name ;;
    esac
}

# The staples that are stored, each looked at by somebody else.
staples_are_good() {
    local file said
    [ -f "$work/issuer.pem" ] ||
        curl -s -A test --cacert "$LAB_CA" "$PEBBLE_MGMT/intermediates/0" >"$work/issuer.pem"
    for file in "$store"/ocsp/*; do
        [ -f "$file" ] || continue
        said=$(openssl ocsp -respin "$file" -CAfile "$PEBBLE_ROOT" -issuer "$work/issuer.pem" \
            -cert "$(find "$store/certificates" -name "$name.crt" | head -n 1)" 2>&1)
        grep -q 'Response verify OK' <<<"$said" || {
            echo "$file: $said"
            return 1
        }
    done
}

# What must be so at any moment, also before anything is run again. Sets $now to the serial number.
check_life() {
    local out
    if [ $scenario = ondemand ] && ! pair >/dev/null; then
        out=$(look absent $name) # nothing yet is as good, a part of it is not
        report $? "$point: $(pair); $out"
        now=
        return
    fi
    now=$(pair)
    report $? "$point: the pair: $now"
    out=$(staples_are_good)
    report $? "$point: a staple: $out"
    [ "$scenario" != replace ] || quarantined_at_most_once
}

quarantined() {
    find "$store/certificates" -name '*.key.compromised'
}

# It is put aside in the very commit that stores its successor.
quarantined_at_most_once() {
    local n
    n=$(quarantined | wc -l)
    if [ "$now" = "$before" ]; then
        [ "$n" = 0 ]
    else
        [ "$n" = 1 ] && cmp -s "$(quarantined)" "$work/compromised.key"
    fi
    report $? "$point: $n keys put aside"
    [ "$now" = "$before" ] || ! cmp -s "$(stored_key)" "$work/compromised.key"
    report $? "$point: the compromised key is in use"
}

# The same again, undisturbed. What was renewed already is not renewed once more.
rerun_life() {
    hours_pass
    life_command
    if [ "$scenario" = renew ] && [ "$now" != "$before" ]; then
        served_words --once --no-ari --no-ocsp $name
    fi
    timeout -k 5 "$wall_s" "$served" "${words[@]}" >"$work/out" 2>&1
    report $? "$point: run again: $(said)"
}

check_life_done() {
    local out
    check_life
    case $scenario in
    ondemand)
        [ -n "$now" ]
        report $? "$point: no certificate after the second run: $(said)"
        # Counted once for each run that came so far: a run may try again by itself.
        [[ $(look get certmesh/ondemand/orders | grep -cE '^[0-9]+ [0-9a-f]+ ') = [12] ]]
        report $? "$point: counted are $(look get certmesh/ondemand/orders)"
        ;;
    renew | replace)
        [ "$now" != "$before" ]
        report $? "$point: not renewed after the second run: $(said)"
        ;;
    staple)
        [ "$(find "$store/ocsp" -type f 2>/dev/null | wc -l)" = 1 ]
        report $? "$point: no staple after the second run: $(said)"
        ;;
    clean)
        out=$(look absent gone.test)
        report $? "$point: after the second run: $out"
        ;;
    esac
    out=$(clean) || out=$(clean_later "$out")
    report $? "$point: after the second run: $out"
    no_temporaries
    report $? "$point: the sweep left $(ls "$store/certmesh/tmp")"
}

# An order that was finalized is never made again, and one more is the most for a run cut off before.
check_orders() {
    case $scenario in
    renew | replace | ondemand)
        ! order_after_finalize
        report $? "$point: a second order after finalize"
        [ "$(orders)" -le 2 ]
        report $? "$point: $(orders) orders"
        ;;
    *)
        [ "$(orders)" = 0 ]
        report $? "$point: $(orders) orders, though nothing was to be ordered"
        ;;
    esac
}
