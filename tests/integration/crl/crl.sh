#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Revocation lists that openssl makes and a web server hands out: good ones, and those that must
# make no difference.
here=$(cd "$(dirname "$0")/../.." && pwd)
. "$here/util/tap.sh"
: "${CRL_WATCH:?path of crl_watch}"

work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
mkdir web

# Connections are closed at once and each request is a line of its own.
python3 -u - web >port 2>requests <<'P' &
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(server.server_address[1], flush=True)
server.serve_forever()
P
pid=$!
for _ in $(seq 200); do
    [ -s port ] && break
    sleep 0.05
done
port=$(cat port)
[ -n "$port" ] || { echo "Bail out! no web server: $(cat requests)"; exit 1; }
web=http://127.0.0.1:$port

ca() { # DIR: a CA in it, of the same name as any other
    mkdir "$1"
    openssl ecparam -name prime256v1 -genkey -noout -out "$1/key"
    openssl req -x509 -new -key "$1/key" -days 30 -subj '/CN=crl CA' -out "$1/pem" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
    : >"$1/index"
    echo 01 >"$1/crlnumber"
    cat >"$1/conf" <<C
[ca]
default_ca = this
[this]
database = $1/index
crlnumber = $1/crlnumber
certificate = $1/pem
private_key = $1/key
default_md = sha256
default_crl_days = 2
[shard]
issuingDistributionPoint = critical, @place
[place]
fullname = URI:$web/shard.crl
onlyuser = TRUE
C
}
leaf() { # NAME URL: serial numbers are random, as openssl has it
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj / -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA ca/pem -CAkey ca/key -days 20 -out "$1.crt" -extfile <(
        printf 'subjectAltName=DNS:%s.test\nextendedKeyUsage=serverAuth\n' "$1"
        [ -z "$2" ] || printf 'crlDistributionPoints=URI:%s\n' "$2"
    )
    cat ca/pem >>"$1.crt"
}
list() { # CA FILE [option of openssl ca]...
    local dir=$1 file=$2
    shift 2
    openssl ca -config "$dir/conf" -gencrl -out list.pem "$@" &&
        openssl crl -in list.pem -outform DER -out "web/$file"
}
watch() { # NAME...: in a process of its own
    local pairs=() name
    for name; do pairs+=("$name.crt" "$name.key"); done
    "$CRL_WATCH" "file://$work/store" "${pairs[@]}" 2>&1
}
fetched() { # FILE: how often
    grep -c "\"GET /$1 " requests
}

{
    ca ca
    ca impostor
    leaf good "$web/list.crl"
    leaf other "$web/list.crl"
    leaf revoked "$web/list.crl"
    leaf plain ''
    leaf pem "$web/pem.crl"
    leaf shard "$web/shard.crl"
    leaf elsewhere "$web/elsewhere.crl"
    leaf expired "$web/expired.crl"
    leaf wrong "$web/wrong.crl"
    leaf huge "$web/huge.crl"
    leaf page "$web/page.crl"
    leaf gone "$web/gone.crl"
    leaf dead http://127.0.0.1:1/dead.crl
    for name in revoked pem shard elsewhere expired; do
        openssl ca -config ca/conf -revoke "$name.crt" -crl_reason keyCompromise
    done
    openssl ca -config impostor/conf -revoke wrong.crt -crl_reason keyCompromise
    list ca list.crl
    cp list.pem web/pem.crl
    list ca shard.crl -crlexts shard
    cp web/shard.crl web/elsewhere.crl
    list ca expired.crl -crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z
    list impostor wrong.crl
    truncate -s 33M web/huge.crl
    echo '<html>nothing here</html>' >web/page.crl
} >setup.log 2>&1 || { echo "Bail out! $(tail -n 5 setup.log)"; exit 1; }

out=$(watch good other revoked plain)
like 'a certificate that is not listed is good' "$out" '^good.crt: good$'
like 'one that is listed is revoked, with its reason' "$out" '^revoked.crt: revoked, reason 1$'
like 'one without a pointer is not watched' "$out" '^plain.crt: not watched$'
is 'three certificates of one list cost one request' "$(fetched list.crl)" 1
out=$(watch revoked good)
like 'another process knows it from storage' "$out" '^revoked.crt: revoked, reason 1$'
is 'and asks nobody' "$(fetched list.crl)" 1

out=$(watch pem shard)
like 'a list in PEM is understood' "$out" '^pem.crt: revoked, reason 1$'
like 'so is the shard that the certificate points to' "$out" '^shard.crt: revoked, reason 1$'

out=$(watch elsewhere expired wrong huge page gone dead)
like 'another shard says nothing' "$out" '^elsewhere.crt: nothing is known: .*another part'
like 'an expired list says nothing' "$out" '^expired.crt: nothing is known: .*expired'
like 'nor does that of a CA of the same name' "$out" '^wrong.crt: nothing is known: .*signature verification has failed'
like 'nor one of 33 MiB' "$out" '^huge.crt: nothing is known: .*size exceeded'
like 'nor a page for people' "$out" '^page.crt: nothing is known: .*neither DER nor PEM'
like 'nor one that is not there' "$out" '^gone.crt: nothing is known: .*status 404'
like 'nor a server that is not there' "$out" '^dead.crt: nothing is known: .*127.0.0.1:1'
is 'none of these is kept' "$(find store/certmesh/crl -name 0 | wc -l)" 3

tap_done
