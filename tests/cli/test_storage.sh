#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `certmesh storage`: one value, archives that other programs read and write, copies.
# shellcheck source=tests/cli/lib.sh disable=SC2154
. "$(dirname "$0")/lib.sh"

s() { # a word on the storage $work/s
    cm storage "$@" --root "$work/s"
}
tree() { # FOLDER: what is in it, less what the storage keeps to itself
    (cd "$1" && find . -type f ! -path './locks/*' ! -path './certmesh/locks/*' ! -path './certmesh/tmp/*' \
        -exec sha256sum {} + | sort -k2)
}

# ------------------------------------------------------------- command lines

fails "no word" 2 'what is to be done' cm storage
fails "unknown word" 2 "no 'exprot'; did you mean export" cm storage exprot
fails "a key too many" 2 'usage: certmesh storage stat KEY' cm storage stat a b
fails "an option of another word" 2 'does not belong to get, but to: ls rm' cm storage get -r a
fails "copy needs both ends" 2 'copy needs --from URL and --to URL' cm storage copy --from memory:a
fails "copy onto itself" 2 'are the same storage' cm storage copy --from "file:$work/x" --to "file:$work/x"

# ----------------------------------------------------------------- one value

printf 'hello\n' >"$work/hello"
check "put a file" s put a/b/hello "$work/hello"
is "get gives it back" "$(s get a/b/hello)" hello
printf 'from a pipe' | "$certmesh" storage put a/pipe --root "$work/s" 2>&1
is "put from standard input" "$(s get a/pipe)" "from a pipe"
is "ls shows the next level" "$(s ls)" "a/"
is "ls -r shows values only" "$(s ls -r | xargs)" "a/b/hello a/pipe"
is "ls of a value shows it" "$(s ls a/pipe)" a/pipe
fails "ls of nothing" 7 'no/such' s ls no/such
run storage ls -r a --json --root "$work/s"
is "ls --json: keys" "$(json '[k["key"] for k in d["keys"]]')" "['a/b/hello', 'a/pipe']"
is "ls --json: sizes" "$(json '[k["size"] for k in d["keys"]]')" "[6, 11]"
like "stat tells the size" "$(s stat a/pipe)" '^Size +11 bytes'
like "stat of a directory" "$(s stat a)" 'a directory'
fails "get of nothing" 7 'no/such' s get no/such
fails "stat of nothing" 7 'no/such' s stat no/such
fails "rm of nothing" 7 'no/such' s rm no/such
fails "rm of a directory wants -r" 2 '-r removes everything below' s rm a
fails "a key that cannot be" 2 "'\.\.' component" s put ../x "$work/hello"
fails "a reserved key" 2 'reserved' s put locks/x "$work/hello"
head -c 1048577 /dev/zero >"$work/big"
fails "put of too much" 1 'more than 1048576 bytes' s put big "$work/big"
fails "put of a file that is not there" 2 'No such file' s put x "$work/nothing"
check "get -o" s get a/pipe -o "$work/got"
is "get -o: the bytes" "$(cat "$work/got")" "from a pipe"
is "get -o: for the owner alone" "$(stat -c %a "$work/got")" 600
fails "get -o into a folder that is not there" 5 'create' s get a/pipe -o "$work/no/such/file"
check "rm" s rm a/pipe
check "rm -r" s rm -r a
is "nothing is left" "$(s ls)" ""

on_terminal() { # its output on a terminal
    script -qec "$(printf '%q ' "$certmesh" storage "$@" --root "$work/s")" /dev/null </dev/null
}
check "a certificate" cm obtain --internal --root "$work/s" app.test
key=$(s ls -r certificates | grep '\.key$')
crt=${key%.key}.crt
if command -v script >/dev/null; then
    like "a private key is not printed on a terminal" "$(on_terminal get "$key")" 'holds a private key'
    like "but with --force" "$(on_terminal get "$key" --force)" 'BEGIN EC PRIVATE KEY'
    like "a chain is" "$(on_terminal get "$crt")" 'BEGIN CERTIFICATE'
    printf 'x\033[31my' | "$certmesh" storage put ansi --root "$work/s"
    like "nor are control bytes" "$(on_terminal get ansi)" 'no text'
    s rm ansi
    like "no archive on a terminal" "$(on_terminal export)" 'not to a terminal'
fi
like "into a pipe it is" "$(s get "$key")" 'BEGIN EC PRIVATE KEY'

# ------------------------------------------------------------------ archives

component=$(printf 'k%.0s' $(seq 245))
long="certificates/$component/$component.x"
edge=$(printf 'e%.0s' $(seq 100))
for name in "$long" "$edge" "p/$edge" "p/${edge}x" "$component/$edge" "${component}n" "a b/c'd" "ü/日" -rf; do
    printf '%s' "value of $name" | "$certmesh" storage put --root "$work/s" -- "$name" || echo "# put $name"
done
: | "$certmesh" storage put empty --root "$work/s"
head -c 1048576 /dev/urandom >"$work/most"
s put most "$work/most"
mkdir -p "$work/s/locks"
echo '{}' >"$work/s/locks/issue_cert_x.lock"

check "export" s export "$work/ours.tar"
is "the archive is for the owner alone" "$(stat -c %a "$work/ours.tar")" 600
is "the same through a pipe" "$(s export | sha256sum)" "$(sha256sum <"$work/ours.tar")"
is "no other file is left" "$(find "$work" -maxdepth 1 -name 'ours.tar.*')" ""
mkdir "$work/gnu" "$work/py"
check "GNU tar reads it" tar -xf "$work/ours.tar" -C "$work/gnu"
rm -r "$work/s/locks"
is "GNU tar: all of it, and no locks" "$(tree "$work/gnu")" "$(tree "$work/s")"
check "Python reads it" python3 - "$work/ours.tar" "$work/py" <<'PY'
import sys, tarfile
with tarfile.open(sys.argv[1], "r:") as t:
    assert all(m.isreg() and m.mode == 0o600 and m.mtime > 1.6e9 for m in t), "not plain files"
    t.extractall(sys.argv[2])
PY
is "Python: all of it" "$(tree "$work/py")" "$(tree "$work/s")"

import_of() { # NAME: the archive $work/NAME.tar into a fresh storage
    rm -rf "$work/i"
    check "$1: import" cm storage import "$work/$1.tar" --root "$work/i"
    is "$1: all of it is there" "$(tree "$work/i")" "$(tree "$work/s")"
}
import_of ours
for format in gnu posix; do
    tar -C "$work/gnu" -cf "$work/$format.tar" --format=$format .
    import_of $format
done
for format in USTAR GNU PAX; do
    python3 - "$work/gnu" "$work/py-$format.tar" $format <<'PY'
import os, sys, tarfile
root, out, fmt = sys.argv[1:]
with tarfile.open(out, "w:", format=getattr(tarfile, fmt + "_FORMAT")) as t:
    for path, dirs, files in os.walk(root):
        for f in files:
            full = os.path.join(path, f)
            try:
                t.add(full, os.path.relpath(full, root))
            except ValueError:      # too long for this format
                os.unlink(full)
PY
    if [ "$format" != USTAR ]; then
        import_of "py-$format"
    else
        rm -rf "$work/i"
        check "py-USTAR: import" cm storage import "$work/py-USTAR.tar" --root "$work/i"
        is "py-USTAR: all of it is there" "$(tree "$work/i")" "$(tree "$work/gnu")"
        tar -xf "$work/ours.tar" -C "$work/gnu"
    fi
done
cm storage import "$work/ours.tar" --root "$work/i" --json >"$work/out"
is "once more: nothing is stored" "$(json '(d["n_stored"], d["n_equal"] == d["n_values"])')" "(0, True)"
"$certmesh" storage import --dry-run --root "$work/dry" <"$work/ours.tar" >"$work/out"
like "--dry-run says what would be" "$(cat "$work/out")" '^would store certificates/'
is "--dry-run stores nothing" "$(cm storage ls --root "$work/dry")" ""

made() { # NAME PYTHON: an archive made by hand
    python3 - "$work/$1.tar" "$2" <<'PY'
import io, sys, tarfile
t = tarfile.open(sys.argv[1], "w:", format=tarfile.GNU_FORMAT)
def file(name, data=b"x", **more):
    i = tarfile.TarInfo(name)
    i.size = len(data)
    for k, v in more.items():
        setattr(i, k, v)
    t.addfile(i, io.BytesIO(data))
exec(sys.argv[2])
t.close()
PY
}
refused() { # WHAT RC PATTERN PYTHON
    made bad "$4"
    rm -rf "$work/i"
    fails "refused: $1" "$2" "$3" cm storage import "$work/bad.tar" --root "$work/i"
}
refused "an absolute name" 2 'empty component' 'file("/etc/x")'
refused "a name that climbs" 2 "'\.\.' component" 'file("a/../../x")'
refused "a link" 2 'is a link' 'file("l", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")'
refused "a hard link" 2 'is a link' 'file("a"); file("l", b"", type=tarfile.LNKTYPE, linkname="a")'
refused "a device" 2 'a device or a pipe' 'file("d", b"", type=tarfile.CHRTYPE)'
refused "a pipe" 2 'a device or a pipe' 'file("d", b"", type=tarfile.FIFOTYPE)'
refused "a control byte" 2 'control byte' 'file("a\nb")'
refused "a value that is too large" 1 'more than the 1048576' 'file("big", b"x" * 1048577)'
refused "a name that is too long" 2 'longer than 512' 'file("/".join(["n" * 200] * 3))'
made reserved 'file("locks/x.lock"); file("certmesh/tmp/y"); file("ok")'
rm -rf "$work/i"
fails "reserved keys are left out, with a word" 0 "'locks/x.lock' left out" \
    cm storage import "$work/reserved.tar" --root "$work/i"
is "and the rest is stored" "$(cm storage ls --root "$work/i")" ok
head -c 700 "$work/ours.tar" >"$work/bad.tar"
fails "refused: cut within an entry" 1 'ends too early' cm storage import "$work/bad.tar" --root "$work/i"
made two 'file("one"); file("two")'
head -c 1024 "$work/two.tar" >"$work/bad.tar"
fails "refused: cut between entries" 1 'ends too early' cm storage import "$work/bad.tar" --root "$work/i"
python3 - "$work/two.tar" "$work/bad.tar" <<'PY'
import sys
b = bytearray(open(sys.argv[1], "rb").read())
b[1] ^= 1
open(sys.argv[2], "wb").write(b)
PY
fails "refused: a header that was changed" 1 'sum is wrong' cm storage import "$work/bad.tar" --root "$work/i"
fails "refused: no archive" 1 'no tar archive' cm storage import "$work/most" --root "$work/i"
fails "an archive that is not there" 2 'No such file' cm storage import "$work/nothing" --root "$work/i"

# -------------------------------------------------------------------- copies

copy() {
    cm storage copy --from "file:$work/s" --to "file:$work/c" "$@"
}
fails "copy --dry-run" 0 '^would store certificates/' copy --dry-run
is "--dry-run stores nothing" "$(cm storage ls --root "$work/c")" ""
check "copy" copy
is "all of it is there" "$(tree "$work/c")" "$(tree "$work/s")"
copy --json >"$work/out"
is "once more: nothing to do" "$(json '(d["n_stored"], d["n_equal"] == d["n_values"], d["equal"])')" "(0, True, True)"
cm storage rm "$key" --root "$work/c"
echo other | "$certmesh" storage put other --root "$work/c"
copy --json >"$work/out"
is "what is missing is copied, others stay" "$(json '(d["n_stored"], d["n_others"], d["n_removed"])')" "(1, 1, 0)"
is "--delete --dry-run tells" "$(copy --delete --dry-run | head -1)" "would remove other"
check "copy --delete" copy --delete
is "now both are equal" "$(tree "$work/c")" "$(tree "$work/s")"
sleep 1 # notBefore counts in seconds
check "a newer certificate in the copy" cm renew --force --internal --root "$work/c" app.test
before=$(cm storage get "$crt" --root "$work/c")
fails "an older one does not replace it" 0 'left out: of certificates older' copy
is "it is still there" "$(cm storage get "$crt" --root "$work/c")" "$before"
check "copy --force" copy --force
is "--force replaces it" "$(tree "$work/c")" "$(tree "$work/s")"
# -------------------------------------------------------------------- reseal

new_key() {
    printf '%s %s\n' "$1" "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')"
}
sealed="sealed:?keys=$work/keys&in=file://$work/sealed"
new_key one >"$work/keys"
chmod 600 "$work/keys"
cm obtain -q --internal --storage "$sealed" a.test '*.wild.test'
is "sealed: no key in clear" "$(grep -rl 'PRIVATE KEY' "$work/sealed" | wc -l)" 0
fails "reseal: wants a sealed storage" 2 'is for a sealed storage' cm storage reseal --root "$work/s"
{
    new_key two
    cat "$work/keys"
} >"$work/keys.new"
mv "$work/keys.new" "$work/keys"
before=$(cm show a.test --storage "$sealed" | grep Serial)
fails "reseal: all of it" 0 '^[0-9]+ values are sealed with the first key now, 0 are left' \
    cm storage reseal --storage "$sealed"
sed -i '/^one /d' "$work/keys"
is "reseal: the old key can go" "$(cm show a.test --storage "$sealed" | grep Serial)" "$before"
is "reseal: nothing has the old key's id" "$(grep -rlaz '^CMSEAL1.one' "$work/sealed/certificates" | wc -l)" 0
like "reseal: wildcards, too" "$(cm list --storage "$sealed")" '\*\.wild\.test'
new_key three >"$work/keys"
fails "sealed: another key opens nothing" 5 "sealed with the key 'two'" \
    cm storage get certificates/certmesh-local/a.test/a.test.crt --storage "$sealed"

# --------------------------------------------------------------------- check

# shellcheck disable=SC2317
k() {
    cm storage check --root "$work/k" "$@"
}
for name in good.test swapped.test other.test cut.test; do
    cm obtain -q --internal --root "$work/k" $name
done
fails "check: nothing to find" 0 '^[0-9]+ values, 0 findings' k
dir=$work/k/certificates/certmesh-local
cp "$dir/other.test/other.test.key" "$dir/swapped.test/swapped.test.key"
rm "$dir/cut.test/cut.test.crt"
printf '{"sans":' >"$dir/good.test/good.test.json"
printf 'x' >"$dir/good.test/goood.test.crt"
chmod 600 "$dir/good.test/goood.test.crt"
printf 'y' >"$work/k/certificates/stray"
ln -s /etc/passwd "$work/k/link"
chmod 644 "$dir/other.test/other.test.crt"
mkdir -p "$work/k/certmesh/tmp"
touch -d '2 hours ago' "$work/k/certmesh/tmp/new-1"
mkdir -p "$work/k/certmesh/retry"
printf '{}' | "$certmesh" storage put certmesh/retry/gone.test --root "$work/k"
touch -d '100 days ago' "$work/k/certmesh/retry/gone.test"
run storage check --root "$work/k"
is "check: exit code 1 when somebody should look" "$rc" 1
like "check: a key of another certificate" "$out" '^damaged +certificates/certmesh-local/swapped.test: .*--repair'
like "check: a part that is missing" "$out" '^damaged +certificates/certmesh-local/cut.test: '
like "check: JSON that is cut" "$out" 'good.test.json: no valid JSON'
like "check: a wrong name" "$out" '^misplaced .*goood.test.crt: nobody looks'
like "check: no certificate at all" "$out" '^misplaced .*certificates/stray: '
like "check: a link" "$out" '^storage +link: .*symbolic link'
like "check: what others can read" "$out" '^storage .*other.test.crt: other users can read it'
like "check: what a crash left" "$out" '^storage +certmesh/tmp/new-1: left by'
like "check: what clean would remove" "$out" '^left over certmesh/retry/gone.test: .*certmesh clean'
is "check: a good one is not named" "$(grep -c 'certmesh-local/good.test:' <<<"$out")" 0
run storage check --root "$work/k" --json
is "check --json" "$(json '(d["n_found"] == len(d["findings"]), d["n_repaired"])')" "(True, 0)"
is "check changes nothing" "$(find "$work/k/certmesh/tmp" -type f | wc -l)" 1
run storage check --repair --root "$work/k"
like "check --repair: says what was done" "$out" 'swapped.test: .*put aside to certmesh/damaged/.*\(done\)'
is "check --repair: what was damaged is aside" \
    "$(cm storage ls -r certmesh/damaged --root "$work/k" | grep -c 'swapped.test/swapped.test.key$')" 1
fails "check --repair: and not in its place" 7 'no value' cm storage ls certificates/certmesh-local/swapped.test \
    --root "$work/k"
is "check --repair: leftovers are gone" "$(find "$work/k/certmesh/tmp" "$work/k/certmesh/retry" -type f | wc -l)" 0
check "check --repair: what is good stays" cm show good.test --root "$work/k"
rm "$work/k/link" "$work/k/certificates/stray" "$dir/good.test/goood.test.crt"
chmod 600 "$dir/other.test/other.test.crt"
cm renew -q --force --internal --root "$work/k" good.test
fails "check: clean again" 0 ' 0 findings' k

# ----------------------------------------------------------------- migration

old=file:$work/m-old
new=file:$work/m-new
both="migrate:?from=$old&to=$new"
last="$both&read=to"
m() { # URL WORD...
    local url=$1
    shift
    cm storage "$@" --storage "$url"
}
cm obtain -q --internal --storage "$old" app.test
printf 1 | "$certmesh" storage put a/old --storage "$old"
fails "migrate: both ends, please" 2 'needs both ends' m "migrate:?from=$old" ls
fails "migrate: parameters" 2 "'too' is not known" m "migrate:?from=$old&too=$new" ls
fails "migrate: one end only" 2 'are both' m "migrate:?from=$old&to=$old" ls
fails "migrate: not to be read before it is complete" 1 'run certmesh storage migrate' m "$last" ls
printf 2 | "$certmesh" storage put a/both --storage "$both"
is "what is stored by a node that migrates is in the old one" "$(m "$old" get a/both)" 2
is "and in the new one" "$(m "$new" get a/both)" 2
is "what a node with the old URL stored is seen" "$(m "$both" get a/old)" 1
printf 3 | "$certmesh" storage put a/both --storage "$old"
is "what it changed, too" "$(m "$both" get a/both)" 3
fails "migrate: still not complete" 1 'not everything is in' m "$last" ls
run storage migrate --from "$old" --to "$new" --json
is "storage migrate: exit code 0" "$rc" 0
is "storage migrate: both are equal" "$(json 'd["equal"]')" True
is "all of it is there" "$(m "$new" ls -r | grep -v certmesh/migration)" "$(m "$old" ls -r)"
is "now the new one can be read" "$(m "$last" get a/both)" 3
printf 4 | "$certmesh" storage put a/both --storage "$last"
is "changes still reach the old one" "$(m "$old" get a/both)" 4
m "$last" rm a/old
fails "removals, too" 7 'a/old' m "$old" get a/old
check "certificates are renewed through both" cm renew -q --force --internal --storage "$both" app.test
is "and are the same in both" "$(m "$old" get "$crt")" "$(m "$new" get "$crt")"
printf x | "$certmesh" storage put theirs --storage "file:$work/m-other"
fails "storage migrate: not into somebody else's" 1 'is not empty' \
    cm storage migrate --from "$old" --to "file:$work/m-other"
fails "a node that migrates: neither" 1 'is not empty' m "migrate:?from=$old&to=file:$work/m-other" ls
is "whose values stay" "$(m "file:$work/m-other" get theirs)" x

fails "from a storage that cannot be" 2 'from: unknown storage scheme' cm storage copy --from nosuch:x --to memory:

tap_done
