#!/bin/bash
# soak.sh: a show of SOAK_MINUTES (20): streams that crash and recover, parameters that move, sessions that come
# and go, a recording; at the end the server must hold what it held after the first minutes.
# Needs BUILD and TOOLS (absolute).
set -u
SRC=$(cd "$(dirname "$0")/../.." && pwd)
SCOPE=$BUILD/scope PLUGINS=$BUILD/plugins
TMP=$(mktemp -d) && cd "$TMP" || exit 1
export SRC BUILD SCOPE PLUGINS TOOLS TMP
. "$SRC/tests/e2e/lib.sh"
minutes=${SOAK_MINUTES:-20}
mkdir plugins
"${CC:-cc}" -std=gnu11 -O1 -fPIC -shared -fvisibility=hidden -I"$SRC/plugin" -o plugins/moody.so "$SRC/tests/abi/moody.c"
serve --plugins "$TMP/plugins" --frame-limit-s 1

made() { api POST /api/v1/streams "{\"chain\": $1, \"source\": {\"url\": \"test:\"}}" | jq -er .id || fail "not made: $(cat api.out)"; }
calm=$(made '[{"plugin": "invert"}, {"plugin": "trail"}]')
crashes=$(made '[{"plugin": "moody", "values": {"mood": "segv", "after": 200}}]')
slow=$(made '[{"plugin": "moody", "values": {"slow_ms": 60, "load_mb": 1}}]') # in a process of its own
numbers() {
    curl -sS "$URL/metrics" | awk '$1 ~ /^process_/ {printf "%s %d ", $1, $2}'
    echo "processes $(pgrep -c -P "$SERVER")"
}
end=$((SECONDS + 60 * minutes)) round=0
while [ "$SECONDS" -lt "$end" ]; do
    round=$((round + 1))
    timeout 250 "$TOOLS/venv/bin/python" "$SRC/tests/clients/sessions.py" "$URL" "$calm" 20 || fail "the sessions went wrong"
    api PATCH "/api/v1/streams/$slow/links/0" "{\"values\": {\"amount\": $((round % 256))}}" >/dev/null
    [ $((round % 5)) = 0 ] && api PATCH "/api/v1/streams/$calm" '{"chain": [{"plugin": "trail"}, {"plugin": "invert"}]}' >/dev/null
    answers 201 POST "/api/v1/streams/$calm/outputs" '{"kind": "record"}'
    output=$(jq -r .id api.out)
    sleep 2
    answers 200 DELETE "/api/v1/streams/$calm/outputs/$output"
    sleep 3
    now=$(numbers)
    [ "$round" = 3 ] && first=$now
    echo "$((SECONDS / 60)) min, round $round: $now; $(curl -sS "$URL/api/v1/streams" | jq -c '[.streams[].stats | [.fps_out, .age_ms.p95, .restarts]]')"
done
[ "$round" -gt 3 ] || fail "too short to say anything: $round rounds"
echo "$first" "$now" | awk '{ print; if ($10 > 1.02 * $2) { print "memory grew"; exit 1 } if ($12 > $4 || $14 > $6) { print "descriptors or threads grew"; exit 1 } }' || fail "something grew"
for id in "$calm" "$slow"; do
    [ "$(curl -sS "$URL/api/v1/streams/$id" | jq '.stats.fps_out > 8 and .stats.restarts == 0')" = true ] || fail "a stream suffered"
done
echo "soaked for $minutes minutes"
