#!/bin/bash
# The page, worked in a real browser: a camera in and the result out over WebSocket, WebRTC and MJPEG; every kind
# of control, with the new value seen in the plugin's own picture; what a person does besides. Screenshots are
# left in LOGS/page-*.png.
. "$SRC/tests/e2e/lib.sh"
export PLAYWRIGHT=$TOOLS/node_modules/playwright-core/index.mjs
bash "$SRC/tests/abi/build.sh" "$TMP/plugins" controls needs_weights not_elf || fail "the test's plugin cannot be built"
page() { timeout 280 node "$SRC/tests/clients/page.mjs" "$URL" "$LOGS" "$@" || fail "the page does not do what it should"; }

size=$(cat $(find "$SRC/host/http/web" -type f) | wc -c)
[ "$size" -lt 163840 ] || fail "the page weighs $size bytes; 160 KB is the limit"

! grep -rnE 'innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function' "$SRC/host/http/web" || fail "data could become markup or code"

serve --plugins "$TMP/plugins"
# what is embedded is what lies in the folder, and is kept by browsers
for file in $(cd "$SRC/host/http/web" && find . -type f ! -name index.html -printf '%P\n'); do
    curl -sS "$URL/web/$file" | cmp -s - "$SRC/host/http/web/$file" || fail "$file is not what is served"
done
curl -sS -D head -o index.html "$URL/"
cmp -s index.html "$SRC/host/http/web/index.html" || fail "the page is not what is served"
says head "default-src 'none'" 'Content-Type: text/html; charset=utf-8' 'Cache-Control: no-cache'
etag=$(sed -n 's/^ETag: \(.*\)\r$/\1/p' head)
answered() { curl -sS -o got -w '%{http_code}' --path-as-is "$@"; }
[ "$(answered -H "If-None-Match: $etag" "$URL/")" = 304 ] || fail "the page is sent again though it is known"
[ "$(answered "$URL/web/nothing.js")" = 404 ] || fail "a file that is not there is there"
[ "$(answered "$URL/web/../page.c")" != 200 ] || fail "a path leaves the folder"
page first numbers choices texts prompts lists files size reload presets others chain setup views fit record again streams webrtc mjpeg phone keyboard

end() {
    kill -TERM "$SERVER" && wait "$SERVER" || fail "the server ended with $?"
    rm serve.out # it says where the next one is
}

# the plugin that is for use, with the model that ships, as `make live` starts them
end
serve --plugin streamdiffusion --preset demo --source "$SRC/examples/clip/clip.mp4"
page restyle mask

# a server that asks for a token: the page asks for it, too
end
export TOKEN=open-sesame
serve --plugins "$TMP/plugins" --token "$TOKEN"
page token
