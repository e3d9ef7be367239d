#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# obtain --csr: what could not be served is refused before a CA is asked (docs/issuing.md).
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

# Nobody listens there: whatever asks the CA ends with 6, and is told from a refusal.
get=(obtain --agree --root "$work/s" --ca https://127.0.0.1:1/dir --timeout 20)
request() { # FILE KEY SUBJECT [SAN]
    openssl req -new -key "$work/$2.key" -subj "$3" ${4:+-addext "subjectAltName=$4"} -out "$work/$1" 2>/dev/null
}
refuses() { # WHAT EXIT-CODE PATTERN FILE
    fails "$1" "$2" "$3" cm "${get[@]}" --csr "$work/$4"
}
key() { # NAME ALGORITHM [OPTION]
    openssl genpkey -algorithm "$2" ${3:+-pkeyopt "$3"} -out "$work/$1.key" 2>/dev/null
}
key ec EC ec_paramgen_curve:P-256
key other EC ec_paramgen_curve:P-256
key koblitz EC ec_paramgen_curve:secp256k1
key small RSA rsa_keygen_bits:1024
key ed448 ED448

request good.csr ec / DNS:a.test,IP:192.0.2.1
refuses "a good one goes on to the CA" 6 'connect' good.csr

request none.csr ec /CN=a.test
refuses "a common name alone" 2 '0 names in its subjectAltName' none.csr
request mail.csr ec / DNS:a.test,email:ops@a.test
refuses "an e-mail address" 2 'name 2 is neither a host nor an address' mail.csr
request uri.csr ec / URI:https://a.test/,DNS:a.test
refuses "a URI" 2 'name 1 is neither a host nor an address' uri.csr
request many.csr ec / "$(seq -s, -f 'DNS:n%g.a.test' 257)"
refuses "257 names" 2 'names in its subjectAltName, 1 to 256' many.csr
request wild.csr ec / 'DNS:*.a.test'
refuses "a wildcard without a DNS challenge" 4 '\*\.a\.test' wild.csr
for kind in koblitz small ed448; do
    request $kind.csr $kind / DNS:a.test
    refuses "a key that is $kind" 4 'its key is neither RSA of 2048' $kind.csr
done

openssl req -in "$work/good.csr" -outform DER -out "$work/der.csr"
refuses "DER does as well" 6 'connect' der.csr
python3 - "$work/der.csr" "$work/broken.csr" <<'PY'
import sys
der = bytearray(open(sys.argv[1], "rb").read())
der[der.index(b"a.test")] ^= 2
open(sys.argv[2], "wb").write(der)
PY
refuses "a request that was changed after it was signed" 4 'signature' broken.csr
head -c 100 "$work/der.csr" >"$work/half.csr"
refuses "half of one" 1 'certificate request' half.csr
: >"$work/empty.csr"
refuses "an empty file" 2 'no certificate request' empty.csr
refuses "a key instead of a request" 1 'the first PEM block is another thing' ec.key
fails "a file that is not there" 2 'No such file' cm "${get[@]}" --csr "$work/no.csr"

is "nothing is kept of any of them" "$(find "$work/s" -type f -path '*/csr/*' 2>/dev/null | wc -l)" 0
tap_done
