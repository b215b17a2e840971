#!/bin/bash
# WHIP and WHEP: an independent client (aiortc) publishes and watches through a plugin in each codec; people come and
# go, by accident too; offers that are wrong. Then Daydream's own browser package does it in Chromium.
. "$SRC/tests/e2e/lib.sh"
PYTHON=$TOOLS/venv/bin/python
client() { timeout 60 "$PYTHON" "$SRC/tests/clients/whip_whep.py" "$URL" "$id" "$@"; }
# The same beside the test; $! is its process.
start() { "$PYTHON" "$SRC/tests/clients/whip_whep.py" "$URL" "$id" "$@" >started.out 2>&1 & }
# stream_is FILTER: of the stream's JSON, within 20 s
stream_is() { await 20 sh -c "curl -sS $URL/api/v1/streams/$id | jq -e '$1'"; }
# near FILE RRGGBB: the colour that was seen last is this one, but for what coding does to it
near() {
    jq -e --arg want "$2" '
        def digit: if . >= 97 then . - 87 else . - 48 end;
        def bytes: [explode | _nwise(2) | (.[0] | digit) * 16 + (.[1] | digit)];
        .colour != null and ([(.colour | bytes), ($want | bytes)] | transpose | all(.[0] - .[1] | fabs < 14))' "$1" >/dev/null ||
        fail "the colour is not $2: $(cat "$1")"
}
serve
stream=$(api POST /api/v1/streams '{"chain": [{"plugin": "invert"}]}')
id=$(jq -r .id <<<"$stream") key=$(jq -r .publish_key <<<"$stream") view=$(jq -r .playback_id <<<"$stream")

# both ways in each codec, with sound; the picture changes its size on the way
for codec in vp8 h264; do
    client through $codec c82800 >seen || fail "$codec: $(cat seen)"
    jq -e --arg c $codec '.codec == $c and .frames >= 30 and .sound >= 30 and .loud and (.sizes | index("480x360"))
        and .sections == ["sendonly", "sendonly"]' seen >/dev/null || fail "$codec: $(cat seen)"
    near seen 37d7ff
    echo "$codec: $(cat seen)"
done

# a viewer is answered while there is nothing to see, without sound; it outlives a publisher that is killed and one
# that takes the stream from another, and other plugins
stream_is '.state == "offline"'
sleep 1 # the sound of before is over as well
client watch 24 >seen &
watching=$!
stream_is '.stats.viewers == 1'
start publish 60 c82800
first=$!
stream_is '.source.kind == "whip"'
kill -KILL $first
start publish 60 00a000
second=$!
await 20 grep -q 'another publisher has taken the stream' serve.log
answers 200 PATCH "/api/v1/streams/$id" '{"chain": [{"plugin": "passthrough"}]}'
wait $watching || fail "the viewer failed: $(cat seen)"
near seen 00a000
jq -e '.frames >= 60 and .sections == ["sendonly", "inactive"]' seen >/dev/null || fail "the viewer saw: $(cat seen)"

# who is killed is noticed
start watch 60
stream_is '.stats.viewers == 1'
kill -KILL $! $second
stream_is '.stats.viewers == 0'
stream_is '.source == null'

# offers that are wrong are told what is wrong with them
golden=$SRC/tests/golden/sdp
# post PATH FILE [TYPE]: the status goes to api.status, the head to head, the body to api.out
post() { curl -sS -m 30 -D head -o api.out -w '%{http_code}' -H "Content-Type: ${3-application/sdp}" --data-binary "@$2" "$URL$1" >api.status; }
# refuses STATUS TEXT PATH FILE [TYPE]
refuses() {
    local status=$1 text=$2
    shift 2
    post "$@"
    [ "$(cat api.status)" = "$status" ] || fail "$* answered $(cat api.status), not $status: $(cat api.out)"
    says api.out "$text"
    jq -e '.success == false and (.error | length) > 10 and .code and .status' api.out >/dev/null || fail "no error: $(cat api.out)"
    grep -qi '^access-control-allow-origin: \*' head || fail "a page could not read this: $(cat head)"
}
sed 's/H264/AV1/' "$golden/whip_offer_chromium156_h264.sdp" >av1
sed 's/^a=ice-pwd.*$//; /^$/d' "$golden/whip_offer_chromium156_h264.sdp" >no_pwd
sed 's/^a=fingerprint:sha-256 ../a=fingerprint:sha-256 /' "$golden/whip_offer_chromium156_h264.sdp" >no_finger
head -c 1000 "$golden/whip_offer_chromium156_h264.sdp" >cut
head -c 100000 /dev/zero | tr '\0' x >large
printf 'v=0\r\n\0' >nul
refuses 406 "no codec in common" "/live/$key/whip" av1
refuses 400 "ice-pwd" "/live/$key/whip" no_pwd
refuses 400 "fingerprint" "/live/$key/whip" no_finger
refuses 400 "offer" "/live/$key/whip" cut
refuses 400 "NUL" "/live/$key/whip" nul
refuses 400 "v=0" "/live/$key/whip" /dev/null
refuses 400 "a=sendonly" "/live/$key/whip" "$golden/whep_offer_chromium156.sdp"
refuses 400 "a=recvonly" "/live/$view/whep" "$golden/whip_offer_chromium156_h264.sdp"
refuses 413 "too large" "/live/$key/whip" large
refuses 415 "application/sdp" "/live/$key/whip" "$golden/whip_offer_chromium156_h264.sdp" text/plain
refuses 404 "no stream" "/live/$view/whip" "$golden/whip_offer_chromium156_h264.sdp" # that key is for watching
refuses 400 "audio" "/live/$view/whep?audio=mp3" "$golden/whep_offer_chromium156.sdp"

# what an answer says besides
post "/live/$key/whip" "$golden/whip_offer_firefox153.sdp"
[ "$(cat api.status)" = 201 ] || fail "Firefox is not answered: $(cat api.out)"
grep -qi "^location: /live/$key/whip/rtc_" head || fail "no location: $(cat head)"
grep -qi "^livepeer-playback-url: $URL/live/$view/whep" head || fail "no playback URL: $(cat head)"
grep -qi '^etag: W/"' head || fail "no etag: $(cat head)"
says api.out "a=rtpmap:120 VP8/90000" "a=candidate:" "127.0.0.1" "a=recvonly" "a=setup:active"
session=$(sed -n 's/^[Ll]ocation: \([^\r]*\).*/\1/p' head)
answers 405 PATCH "$session" '{}'
answers 200 DELETE "$session"
answers 404 DELETE "$session"

# there is room for 64 sessions; those that never connect end by themselves
full() {
    seq 48 | xargs -P 12 -I{} curl -sS -m 30 -o "full.{}" -w '%{http_code}\n' -H 'Content-Type: application/sdp' \
        --data-binary "@$golden/whep_offer_firefox153.sdp" "$URL/live/$view/whep" >codes
    grep -q 503 codes
}
await 60 full
grep -lq "sessions of this server are taken" full.* || fail "the 65th is not told why: $(cat codes)"
await 40 grep -q 'did not connect within 15 seconds' serve.log
room() { post "/live/$view/whep" "$golden/whep_offer_firefox153.sdp" && [ "$(cat api.status)" = 201 ]; }
await 40 room

# Daydream's browser package, from another origin; and how long a picture is under way
answers 200 PATCH "/api/v1/streams/$id" '{"chain": [{"plugin": "invert"}]}'
timeout 90 node "$SRC/tests/clients/daydream_browser.mjs" "$URL/live/$key/whip" >seen || fail "Daydream's package: $(cat seen)"
jq -e --arg w "$URL/live/$view/whep" '.whep == $w and .states.player[0] == "playing" and (.tracks | index("video"))' seen >/dev/null ||
    fail "Daydream's package: $(cat seen)"
echo "browser: $(cat seen)"
answers 200 PATCH "/api/v1/streams/$id" '{"chain": [{"plugin": "passthrough"}]}'
for codec in vp8 h264; do
    timeout 90 node "$SRC/tests/clients/latency.mjs" "$URL" "$key" "$view" --way rtc --codec $codec --seconds 4 >latency || fail "$codec: $(cat latency)"
    jq -e '.colour_error == null or .colour_error < 4' latency >/dev/null || fail "$codec: the colours: $(cat latency)"
    jq -r '"chromium \(.codec): \(.pictures) pictures, \(.fps) a second, p50 \(.p50_ms) ms, p95 \(.p95_ms) ms"' latency
done
never serve.log CRITICAL
never serve.log assertion
