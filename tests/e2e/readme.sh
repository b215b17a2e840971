#!/bin/bash
# Every command in the README's ```sh blocks, run as written, on small stand-ins for the reader's files.
set -e
ln -s "$SRC/examples/models/tiny" sd-turbo
ln -s "$PLUGINS" plugins
"$SCOPE" run --quiet --frames 12 "$SRC/examples/clip/clip.mp4" -o party.mp4
echo '{"strength": [[0, 0.2], [0.3, 0.7, "ease"]]}' >keys.json
mkdir bin && ln -s "$SCOPE" bin/scope
export PATH=$PWD/bin:$PATH SCOPE_PATH=$PLUGINS

awk '/^```sh$/ {inside = 1; next} /^```$/ {inside = 0} inside' "$SRC/README.md" >commands.sh
commands=$(grep -c '^scope ' commands.sh)
[ "$commands" -ge 12 ] || { echo "only $commands commands found in the README"; exit 1; }
# Servers run behind until the next one, on free ports, and curl talks to the last one.
cat >stage.sh <<'END'
export SCOPE_PORT=0 SCOPE_OSC_PORT=0 SCOPE_DATA=$PWD/data SCOPE_CONFIG='{"models": {"stabilityai/sd-turbo": {"plugin":
    "streamdiffusion", "values": {"model_id_or_path": "tiny", "width": 256, "height": 256}}}}'
scope() {
    if [ "$1" != serve ] || [ "$2" = --check ]; then command scope "$@"; return; fi
    stop
    command scope "$@" >served 2>>serve.log &
    server=$!
    for _ in $(seq 300); do grep -q ' serves ' served && return; kill -0 $server || exit 1; sleep 0.1; done
    exit 1
}
stop() {
    [ -z "${server:-}" ] || { kill $server && wait $server; }
    server=
}
curl() {
    case $(cat served) in
    *https:*) stop; SCOPE_TLS=off scope serve ;;
    esac
    command curl -fS "${@/http:\/\/127.0.0.1:8080/$(sed -n 's|.* serves \(http[^ ]*\)/$|\1|p' served)}"
}
trap stop EXIT
END
cat stage.sh commands.sh >staged.sh
bash -e -o pipefail -x staged.sh >commands.out
jq -e '.params.prompt == "ink drawing" and (.whip_url | test("^http"))' stream.json >stream.ok
grep -q scope_uptime_seconds commands.out

for f in party-watercolour.mp4 party.webm morph.mp4 lighthouse.png frames/000001.png trails.mp4; do
    [ -s $f ] || { echo "the README's commands left no $f"; ls -R .; exit 1; }
done
grep -q streamdiffusion commands.out

# The links of the front page lead somewhere.
grep -oE '\]\([^)h][^)]*\)' "$SRC/README.md" | sed -E 's/^\]\((.*)\)$/\1/' | while read -r link; do
    [ -e "$SRC/${link%%#*}" ] || { echo "README links to $link, which is not there"; exit 1; }
done
# What `make demo` runs does the main job, here on the first frames.
"$SRC/examples/demo.sh" "$BUILD" demo 8
[ -s demo/demo.mp4 ] && [ -s demo/sheet.png ]
