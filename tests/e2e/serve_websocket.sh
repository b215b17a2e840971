#!/bin/bash
# Publishing and watching over WebSocket, MJPEG and single pictures, by a client that codes with FFmpeg: every codec
# both ways, changes in mid-stream, nonsense, two publishers, a viewer that does not read. Then a browser does both.
. "$SRC/tests/e2e/lib.sh"
serve
timeout 200 "$TOOLS/venv/bin/python" "$SRC/tests/clients/websocket_media.py" "$URL" || fail "see above"

# Chromium's WebCodecs both ways: pictures come back, readable, in both codecs
for codec in vp8 h264; do
    stream=$(api POST /api/v1/streams '{"chain": [{"plugin": "passthrough"}]}')
    key=$(jq -r .publish_key <<<"$stream") view=$(jq -r .playback_id <<<"$stream")
    timeout 120 node "$SRC/tests/clients/latency.mjs" "$URL" "$key" "$view" --codec $codec --seconds 3 >latency || fail "$codec: $(cat latency)"
    jq -e '.pictures >= 30 and .unreadable <= .shown / 20 and .colour_error <= 3' latency >/dev/null || fail "$codec: $(cat latency)"
    jq -r '"chromium \(.codec): \(.pictures) pictures, \(.fps) a second, p50 \(.p50_ms) ms, p95 \(.p95_ms) ms, colours off by \(.colour_error)"' latency
    answers 200 DELETE "/api/v1/streams/$(jq -r .id <<<"$stream")"
done

# nothing of all this is left
await 20 sh -c "curl -sS $URL/metrics | grep -q '^scope_http_websockets 0$'"
never serve.log CRITICAL
