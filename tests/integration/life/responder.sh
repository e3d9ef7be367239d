#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The tools that the tests of this folder stand on: the responder says what it is told to say, as
# openssl sees it, and the CA can be stopped, be silent, and want a certificate renewed.
. "$(dirname "$0")/common.sh"

lab_up lab LAB_OCSP=1 LAB_NONCEREJECT=0 LAB_VALIDITY=3600
check "a certificate" cm obtain a.test
leaf=$(stored a.test crt)
curl -s -A test --cacert "$LAB_CA" "$PEBBLE_MGMT/intermediates/0" >"$work/issuer.pem"
is "it names the responder" "$(openssl x509 -in "$leaf" -noout -ocsp_uri)" "$OCSP_URL"
seconds=$(($(date -d "$(openssl x509 -in "$leaf" -noout -enddate | cut -d= -f2)" +%s) - $(date +%s)))
[ "$seconds" -gt 3500 ] && [ "$seconds" -le 3600 ]
tap_result $? "it lives for an hour" "$seconds s"

ask() {
    timeout 5 openssl ocsp -no_nonce -issuer "$work/issuer.pem" -cert "$leaf" -url "$OCSP_URL" \
        -CAfile "$PEBBLE_ROOT" 2>&1
}
# What openssl makes of each mode: it verifies, then compares times, then tells the status.
while read -r mode wanted; do
    ocsp_ctl "mode=$mode&delay=1"
    like "$mode" "$(ask)" "$wanted"
done <<'M'
truth crt: good
good crt: good
revoked Reason: keyCompromise
unknown crt: unknown
expired status expired
future status not yet valid
nonext crt: good
backwards nextupdate before thisupdate
old crt: good
wrongserial ERROR: No Status found
wrongissuer (signer certificate not found|certificate verify error)
two Response Verify Failure|crt: (good|revoked)
badsig Response Verify Failure
delegated crt: good
delegated_bad Response Verify Failure
trylater trylater \(3\)
unauthorized unauthorized \(6\)
garbage Error querying OCSP responder
empty Error querying OCSP responder
html500 Error querying OCSP responder
truncated Error querying OCSP responder
trailing crt: good|Error querying
slow crt: good
reset Error querying OCSP responder
redirect Error querying OCSP responder
M
ocsp_ctl "mode=hang"
timeout 2 openssl ocsp -no_nonce -issuer "$work/issuer.pem" -cert "$leaf" -url "$OCSP_URL" \
    >/dev/null 2>&1
is "hang" "$?" 124
ocsp_ctl "mode=big"
openssl ocsp -no_nonce -issuer "$work/issuer.pem" -cert "$leaf" -reqout "$work/request" >/dev/null 2>&1
is "big" "$(curl -s --max-time 10 --data-binary "@$work/request" "$OCSP_URL/" | wc -c | cut -c 1)" 8
serial=$(openssl x509 -in "$leaf" -noout -serial | cut -d= -f2)
ocsp_ctl "mode=truth&reset=1"
ocsp_ctl "mode=revoked&serial=$serial"
like "one serial alone can be lied about" "$(ask)" 'crt: revoked'
ocsp_ctl "mode=-&serial=$serial"
like "and no more" "$(ask)" 'crt: good'
is "questions are counted, all" "$(ocsp_state 'd["hits"]')" 2
is "and by serial" "$(ocsp_state "d['hits_by_serial']['${serial,,}'.lstrip('0')]")" 2
is "none was about another issuer" "$(ocsp_state 'd["foreign"]')" 0
check "revoked at the CA" cm revoke a.test --yes --keep --reason superseded
like "the truth is told" "$(ask)" 'Reason: superseded'

# The CA comes and goes.
lab="$here/tests/util/lab"
check "a responder can be stopped" "$lab" stop "$LAB_DIR" ocspd
like "then nobody is there" "$(ask)" 'Error querying OCSP responder|onnection refused'
check "and started" "$lab" start "$LAB_DIR" ocspd
like "then it knows nothing of before" "$(ocsp_state 'd["mode"], d["hits"]')" "truth.*0"
check "Pebble is told to be silent" "$lab" signal "$LAB_DIR" pebble STOP
curl -s --max-time 1 --cacert "$LAB_CA" "$ACME_DIR" >/dev/null
is "it takes a connection and says nothing" "$?" 28
"$lab" signal "$LAB_DIR" pebble CONT
check "then it answers again" curl -sf --max-time 10 -A test --cacert "$LAB_CA" "$ACME_DIR"
check "Pebble is stopped" "$lab" stop "$LAB_DIR" pebble
curl -s --max-time 5 --cacert "$LAB_CA" "$ACME_DIR" >/dev/null
is "then connections are refused" "$?" 7
check "and started anew" "$lab" start "$LAB_DIR" pebble
check "another certificate" cm obtain b.test
leaf=$(stored b.test crt)
curl -s -A test --cacert "$LAB_CA" "$PEBBLE_MGMT/intermediates/0" >"$work/issuer.pem"
like "the responder signs with the new key" "$(ask)" 'crt: good'

case " $PEBBLE_FEATURES " in
*" set-ari "*)
    check "a window is set" "$lab" ari "$LAB_DIR" "$leaf" '-2 hours' '-1 hour'
    base=$(curl -s -A test --cacert "$LAB_CA" "$ACME_DIR" | python3 -c 'import json, sys
print(json.load(sys.stdin)["renewalInfo"])')
    id=$(python3 - "$leaf" <<'P'
import base64, re, subprocess, sys
text = subprocess.run(["openssl", "x509", "-in", sys.argv[1], "-noout", "-serial", "-ext",
                       "authorityKeyIdentifier"], capture_output=True, text=True).stdout
aki = re.search(r"\n\s+(?:keyid:)?([0-9A-F:]{59})", text).group(1).replace(":", "")
serial = re.search(r"serial=([0-9A-F]+)", text).group(1)
if int(serial[0], 16) > 7:
    serial = "00" + serial
print(".".join(base64.urlsafe_b64encode(bytes.fromhex(x)).decode().rstrip("=") for x in (aki, serial)))
P
    )
    like "and the CA says so" "$(curl -s -A test --cacert "$LAB_CA" "$base/$id")" \
        "$(date -u -d '-2 hours' +%Y-%m-%d)"
    ;;
*)
    fails "an old Pebble sets no window" 1 'does not take the window: 404' \
        "$lab" ari "$LAB_DIR" "$leaf" '-2 hours' '-1 hour'
    ;;
esac
tap_done
