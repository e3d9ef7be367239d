#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `serve` shows and does beside its names: metrics, log lines as JSON, certificates from files.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

export CERTMESH_STORAGE=file:$work/store
ports=()
while [ ${#ports[@]} -lt 3 ]; do
    port=$(free_port)
    [[ " ${ports[*]} " == *" $port "* ]] || ports+=("$port")
done
tls=${ports[0]}
metrics=${ports[1]}

start() { # PATTERN ARG...; waits until it has said PATTERN
    local pattern=$1
    shift
    : >"$work/serve.err"
    "$certmesh" serve --internal --listen 127.0.0.1 --tls-port "$tls" --no-http "$@" \
        >"$work/serve.out" 2>"$work/serve.err" </dev/null &
    server=$!
    await grep -q "$pattern" "$work/serve.err"
}
finish() { # sets $rc
    kill -TERM "$server"
    wait "$server"
    rc=$?
    server=
}

# The text format of Prometheus, version 0.0.4, as its documentation has it.
cat >"$work/exposition.py" <<'PY'
import re, sys
text = open(sys.argv[1]).read()
assert text.endswith("\n")
label = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
sample = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{%s(?:,%s)*\})? (\S+)' % (label, label))
families, current, seen, values = {}, None, set(), {}
for line in text.splitlines():
    if line.startswith("# HELP "):
        current = line.split(" ")[2]
        assert current not in families, "twice: " + current
        families[current] = None
    elif line.startswith("# TYPE "):
        _, _, name, kind = line.split(" ")
        assert name == current and families[name] is None, line
        assert kind in ("counter", "gauge", "histogram"), line
        families[name] = kind
    else:
        m = sample.fullmatch(line)
        assert m, line
        name = m.group(1)
        if families[current] == "histogram":
            name = re.sub("_(bucket|sum|count)$", "", name)
        assert name == current and families[current], line
        float(m.group(3))
        key = m.group(1) + (m.group(2) or "")
        assert key not in seen, "twice: " + key
        seen.add(key)
        values[key] = float(m.group(3))
for want in sys.argv[2:]:
    print(next((int(v) for k, v in values.items() if re.fullmatch(want, k)), "none"))
PY
scraped() { # PATTERN: its value in the last scrape
    python3 "$work/exposition.py" "$work/metrics" "$1" 2>&1
}

# ---- metrics
start 'all 2 names are up' --metrics "$metrics" localhost site.test
tap_result $? "serve --metrics comes up" "$(cat "$work/serve.err")"
like "it says where" "$(cat "$work/serve.err")" \
    "^certmesh: metrics at http://127.0.0.1:$metrics/metrics\$"
check "curl gets them" curl -sS -f --max-time 10 -D "$work/head" -o "$work/metrics" \
    "http://127.0.0.1:$metrics/metrics"
like "their type" "$(cat "$work/head")" '^Content-Type: text/plain; version=0\.0\.4; charset=utf-8'
check "they are well-formed" python3 "$work/exposition.py" "$work/metrics"
not_after=$(scraped 'certmesh_certificate_not_after_seconds\{name="localhost",issuer="certmesh-local",.*')
run show --internal localhost --json
is "not_after as show has it" "$not_after" \
    "$(json '__import__("calendar").timegm(__import__("time").strptime(d["certificates"][0]["not_after"], "%Y-%m-%dT%H:%M:%SZ"))')"
is "both were obtained" "$(scraped 'certmesh_renewals_total\{outcome="obtained",class=""\}')" 2
is "storage is up" "$(scraped 'certmesh_storage_up')" 1
is "two names" "$(scraped 'certmesh_names\{state="served"\}')" 2
is "nothing else is there" \
    "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$metrics/")" 404
fails "and on no other address" 7 '.' curl -sS --max-time 5 "http://127.0.0.2:$metrics/metrics"
fails "its port is taken: exit code 8" 8 "port $metrics" cm serve --internal --listen 127.0.0.1 \
    --tls-port "${ports[2]}" --no-http --metrics "127.0.0.1:$metrics" localhost
finish
is "SIGTERM: exit code 0" "$rc" 0
for bad in '' : x:y 127.0.0.1:0 127.0.0.1:70000 '[::1' 0; do
    fails "--metrics '$bad'" 2 'metrics' cm serve --internal --metrics "$bad" localhost
done

# ---- lines for programs
cat >"$work/lines.py" <<'PY'
import json, re, sys
events = {}
for line in open(sys.argv[1], "rb").read().decode("utf-8").splitlines():
    d = json.loads(line)
    assert list(d) == ["time", "level", "event", "msg", "fields"], line
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", d["time"]), line
    assert d["level"] in ("debug", "info", "warning", "error"), line
    assert re.fullmatch("[a-z_]+", d["event"]) and isinstance(d["msg"], str), line
    assert all(isinstance(v, str) for v in d["fields"].values()), line
    events.setdefault(d["event"], d)
print(eval(sys.argv[2]))
PY
lines() { # EXPRESSION over the first line of each event
    python3 "$work/lines.py" "$work/serve.err" "$1" 2>&1
}
start 'new.test:.* is up' --log-format json new.test
finish
is "an object on each line" "$(lines 'len(events) > 3')" True
is "cert_obtaining" "$(lines 'events["cert_obtaining"]["fields"]')" "{'identifier': 'new.test'}"
is "cert_obtained" "$(lines 'sorted(events["cert_obtained"]["fields"])')" \
    "['identifier', 'issuer', 'name', 'not_after', 'serial']"
is "its level and sentence" \
    "$(lines 'events["cert_obtained"]["level"] + " " + events["cert_obtained"]["msg"]')" \
    "info new.test: obtained"
is "cached_managed_cert" "$(lines 'events["cached_managed_cert"]["fields"]["name"]')" new.test
is "remarks are lines, too" "$(lines 'events["remark"]["msg"].startswith("serving HTTPS on port")')" True
is "handshakes are not told of" "$(lines '"tls_get_certificate" in events')" False
"$certmesh" obtain --log-format json --ca https://127.0.0.1:1/directory --agree a.test b.test \
    --timeout 5 2>"$work/serve.err" >/dev/null </dev/null
is "what fails is said in lines, too" \
    "$(lines '"a.test" in json.dumps(list(events.values())) and "certmesh: " not in json.dumps(list(events.values()))')" \
    True
is "cert_failed" "$(lines '(events["cert_failed"]["fields"]["status"], events["cert_failed"]["fields"]["issuers"], events["cert_failed"]["fields"]["attempts"])')" \
    "('CM_E_NET', '127.0.0.1:1-directory', '1')"
fails "--log-format xml" 2 'text and json' cm list --log-format xml
check "--log-format text" cm list --internal --log-format text

# ---- what others store without a word, as CertMagic does
cp -a "$work/store" "$work/elsewhere"
start 'site.test:.* is up' --poll-storage 10s site.test
check "renewed elsewhere" cm renew --internal --storage "file:$work/elsewhere" --force --quiet site.test
run show --internal --storage "file:$work/elsewhere" site.test --json
want=$(json 'd["certificates"][0]["serial"]')
for file in key crt json; do
    file=certificates/certmesh-local/site.test/site.test.$file
    cat "$work/elsewhere/$file" >"$work/store/$file"
done
is_shown() {
    openssl s_client -connect "127.0.0.1:$tls" -servername site.test </dev/null 2>/dev/null |
        openssl x509 -noout -serial | grep -qi "=$want\$"
}
await is_shown || await is_shown
tap_result $? "it is served although nobody told of it" "$want; $(cat "$work/serve.err")"
finish
fails "--poll-storage 5s" 2 'poll_storage_s|--poll-storage' cm serve --internal --poll-storage 5s \
    --no-http --tls-port "$tls" localhost

# ---- certificates from files
make_pair() { # FILE NAME SERIAL
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -set_serial "$3" \
        -subj "/CN=$2" -addext "subjectAltName=DNS:$2" -keyout "$1.key" -out "$1.crt" 2>/dev/null
}
serial() { # NAME: of what is served for it
    openssl s_client -connect "127.0.0.1:$tls" -servername "$1" </dev/null 2>/dev/null |
        openssl x509 -noout -serial 2>/dev/null
}
serves() { # NAME SERIAL
    [ "$(serial "$1")" = "serial=$2" ]
}
mkdir -p "$work/new"
make_pair "$work/one" one.test 0x0A01
make_pair "$work/two" two.test 0x0A02
make_pair "$work/new/one" one.test 0x0B01
start 'all names\|is up' --cert "$work/one.crt" --key "$work/one.key" \
    --cert "$work/two.crt" --key "$work/two.key" localhost
tap_result $? "serve --cert --key comes up" "$(cat "$work/serve.err")"
is "the first" "$(serial one.test)" serial=0A01
is "the second" "$(serial two.test)" serial=0A02
like "beside managed names" "$(serial localhost)" '^serial='
mv "$work/new/one.crt" "$work/one.crt"
check "half of a new pair is said" await grep -q 'does not belong to the certificate' "$work/serve.err"
is "and the old one served" "$(serial one.test)" serial=0A01
mv "$work/new/one.key" "$work/one.key"
check "the new pair is served once it is whole" await serves one.test 0B01
finish
is "exit code 0" "$rc" 0

start 'serving HTTPS on port' --cert "$work/one.crt" --key "$work/one.key"
tap_result $? "without any name to manage" "$(cat "$work/serve.err")"
is "it is served" "$(serial one.test)" serial=0B01
finish
is "exit code 0 without names" "$rc" 0
fails "a certificate without its key" 2 'each --cert needs its --key' \
    cm serve --internal --cert "$work/one.crt" localhost
fails "a key of another certificate" 1 'does not belong' cm serve --internal \
    --cert "$work/one.crt" --key "$work/two.key" localhost
fails "a file that is not there" 2 'absent.crt' cm serve --internal --cert "$work/absent.crt" \
    --key "$work/two.key" localhost
fails "neither names nor files" 2 'which names' cm serve --internal

tap_done
