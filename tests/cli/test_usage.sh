#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Help and wrong command lines: what people meet first.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

commands="obtain renew revoke list show status why serve clean storage account dns cas trust version help"

run
is "no command: exit code 2" "$rc" 2
like "no command: the commands are listed" "$err" '^  obtain +get certificates'
for command in $commands; do
    run "$command" --help
    is "$command --help: exit code 0" "$rc" 0
    like "$command --help: says how to use it" "$out" "^Usage: certmesh $command"
    like "$command --help: has an example" "$out" "^  certmesh $command"
    like "$command --help: tells the exit codes" "$out" '^Exit codes:'
    is "$command --help: no line is longer than 80 columns" "$(awk 'length > 80' <<<"$out")" ""
    run help "$command"
    is "help $command: exit code 0" "$rc" 0
    run "$command" --no-such-option
    is "$command: unknown option is exit code 2" "$rc" 2
done
run --help
is "--help alone: exit code 0" "$rc" 0
run --version
like "--version alone" "$out" '^certmesh [0-9]+\.[0-9]+\.[0-9]+ '

fails "unknown command" 2 "no command 'obtian'; did you mean obtain" cm obtian a.test
fails "help on an unknown command" 2 "no command 'obtian'" cm help obtian
fails "misspelled option" 2 "unknown option '--intenal'; did you mean --internal" cm obtain --intenal a.test
fails "another command's option" 2 'does not belong to this command, but to: revoke' cm obtain --keep a.test
fails "option without its value" 2 "'--storage' needs a value" cm list --storage
fails "value for an option that takes none" 2 'json takes no value' cm list --json=yes
fails "no name" 2 'which names' cm obtain --internal
fails "two names for show" 2 'one argument too many' cm show a.test b.test
fails "port 0" 2 'not a port' cm serve --http-port 0 a.test
fails "port 65536" 2 'not a port' cm serve --tls-port 65536 a.test
fails "port with text" 2 'not a port' cm serve --tls-port 80x a.test
fails "parallel 0" 2 'not a number' cm obtain --parallel 0 a.test
fails "key type" 2 "p256" cm obtain --key-type p257 a.test
fails "challenge" 2 'did you mean http-01' cm obtain --challenge http01 a.test
fails "dns-01 alone" 2 'dns-01 needs a DNS provider' cm obtain --challenge dns-01 a.test
fails "choice of chain" 2 'did you mean smallest' cm obtain --chain smalest a.test
fails "any of what chain" 2 'chain any needs --preferred-chain' cm obtain --chain any a.test
fails "two wishes for a chain" 2 'exclude each other' cm obtain --chain smallest --preferred-chain X a.test
fails "lifetime 0" 2 'not a time above 0' cm obtain --lifetime 0 a.test
fails "proxy that is none" 2 'no URL of one' cm obtain --agree --root "$work/none" --proxy ftp://x a.test
fails "a request and names" 2 'csr: the names are those of the request' cm obtain --csr x.csr a.test
fails "out without a request" 2 'out is for the chain' cm obtain --out x.pem a.test
for text in 1.2.3 1.2.3= =0500 1.2.3=5 1.2.3=0x 1.2.3=critical: 1.2.3=0500:; do
    fails "extension $text" 2 'not OID=HEX' cm obtain --csr-extension "$text" a.test
done
fails "extension of the CA" 2 'subjectAltName is made of the names' \
    cm obtain --agree --root "$work/none" --csr-extension 2.5.29.17=0500 a.test
fails "extension of a request" 2 'what the request asks for stands in it' \
    cm obtain --csr x.csr --csr-extension 1.2.3=0500
fails "alternate port 0" 2 'not a port' cm obtain --alt-http-port 0 a.test
fails "reason" 2 'did you mean superseded' cm revoke --reason superseeded a.test
fails "reason 7 does not exist" 2 'no reason of RFC 5280' cm revoke --reason 7 a.test
fails "grace" 2 'not a time such as' cm clean --grace 14x
fails "if-older" 2 'not a time such as' cm clean --if-older soon
fails "force belongs to more than one command" 2 'but to: renew, clean' cm list --force
fails "timeout 0" 2 'not a number of seconds' cm list --timeout 0
fails "CA over plain http" 2 'only talked to over https' cm obtain --ca http://ca.test/dir a.test
fails "misspelled CA" 2 'did you mean letsencrypt' cm obtain --ca letsencrpt a.test
fails "CA in the environment" 2 'neither letsencrypt' env CERTMESH_CA=nonsense "$certmesh" list
fails "fallback CA over plain http" 2 'fallback-ca .* only talked to over https' \
    cm obtain --fallback-ca http://ca.test/dir a.test
fails "the local CA as a fallback" 2 'fallback-ca internal: .* speaks ACME' cm obtain --fallback-ca internal a.test
fails "a fallback for the local CA" 2 'internal CA and --fallback-ca exclude' \
    cm obtain --internal --fallback-ca letsencrypt a.test
fails "the local CA to try things out at" 2 'test-ca internal: .* speaks ACME' cm serve --test-ca internal a.test
fails "a test CA for the local CA" 2 'internal CA and --test-ca exclude' \
    cm serve --internal --test-ca letsencrypt-staging a.test
fails "CA order" 2 'listed and random' cm obtain --ca-order any a.test
fails "nothing to choose from" 2 'needs another CA' cm obtain --ca-order random a.test
for rate in 300 300/ /3h 0/3h 300/0 300/3y 1000001/1h 300/367d -1/3h on; do
    fails "rate $rate" 2 'neither off nor a number of orders' cm obtain --rate "$rate" a.test
done
for time in 0 0d -3d 30y soon; do
    fails "renew before $time" 2 'not a time above 0 such as 30d' cm renew --renew-before "$time"
done
for pair in http://a.test a.test=http://b.test http://a.test=b.test =http://b.test http://=; do
    fails "OCSP responder $pair" 2 'not FROM=TO' cm serve --ocsp-responder "$pair" a.test
done
fails "no OCSP, and whom to ask" 2 'exclude each other' \
    cm serve --no-ocsp --ocsp-responder http://a.test= a.test
fails "a snapshot without a key" 2 'snapshot_key_file' cm serve --internal --snapshot "$work/s" a.test
fails "a snapshot whose key is not there" 2 'absent' \
    cm serve --internal --snapshot "$work/s" --snapshot-key-file "$work/absent" a.test
fails "another command's flag" 2 'but to: serve' cm obtain --no-clean a.test
fails "storage twice" 2 'the same thing twice' cm list --root a --storage file:b
fails "internal and a CA" 2 'exclude each other' cm obtain --internal --ca letsencrypt a.test
fails "quiet and verbose" 2 'exclude each other' cm list -q -v
fails "unknown storage scheme" 2 'nosuch' cm list --storage nosuch://x
fails "account word" 2 'did you mean show' cm account shwo
fails "account of the local CA" 2 'has no accounts' cm account --internal
fails "account update without a contact" 2 'with --email' cm account update
fails "EAB key without its id" 2 'needs --eab-kid' cm obtain --eab-key-file /dev/null a.test
fails "EAB id without its key" 2 'needs its key' cm obtain --root "$work/s" --eab-kid k a.test
fails "revoke off a terminal wants --yes" 2 'add --yes' cm revoke --internal --root "$work/s" a.test
fails "deactivate off a terminal wants --yes" 2 'add --yes' cm account deactivate --root "$work/s"
fails "malformed name" 2 'a..b' cm obtain --internal --root "$work/s" a..b
fails "escape sequences in arguments do not reach the terminal" 2 "'\?\[31m" cm $'\033[31m'

run list -q --root "$work/s" --json
is "options before and after" "$rc" 0
run --root "$work/s" list
is "options before the command" "$rc" 0
run cas
is "cas: exit code 0" "$rc" 0
like "cas: short names" "$out" '^  --ca letsencrypt$'
like "cas: what is bound to whom" "$out" '^ZeroSSL +yes'
is "cas: no line is longer than 100 columns" "$(awk 'length > 100' <<<"$out")" ""
run cas --json
is "cas --json: those that are usable have https directories" \
    "$(json 'all(c["directory"].startswith("https://") for c in d["cas"] if c["usable"])')" True
is "cas --json: what has ended is said" "$(json '[c["name"] for c in d["cas"] if c["ended"]]')" "['Buypass']"
is "cas --json: each is in docs/cas.md" "$(json '[c["name"] for c in d["cas"] if
    "| %s |" % c["name"].split(",")[0] not in open("'"$here/../../docs/cas.md"'").read()]')" "[]"
fails "cas takes no names" 2 'argument' cm cas letsencrypt
run version --json
is "version --json has both versions" "$(json 'd["command"] == d["library"]')" True

tap_done
