#!/bin/bash
# live.sh: latency and CPU of the live path, 512 x 512 at 30 pictures a second through `passthrough`. Needs BUILD and
# TOOLS (build/tools); LIVE_WAYS="ws rtc" and LIVE_SECONDS=10 may be set. Bars: glass to glass p50 35 ms and p95 55 ms, a
# quarter of a core for the host process with one viewer, eight streams at 30 on two cores, and
# what is said below.
SRC=$(cd "$(dirname "$0")/../.." && pwd)
export SRC BUILD SCOPE=$BUILD/scope TOOLS=${TOOLS:-$BUILD/tools} TMP
TMP=$(mktemp -d "${TMPDIR:-/tmp}/scope-live.XXXXXX") && cd "$TMP" || exit 1
. "$SRC/tests/e2e/lib.sh"
mkdir plugins
"${CC:-cc}" -std=gnu11 -O1 -fPIC -shared -fvisibility=hidden -I"$SRC/plugin" -o plugins/moody.so "$SRC/tests/abi/moody.c"
serve --plugins "$TMP/plugins"
SECONDS_EACH=${LIVE_SECONDS:-10}
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }

echo "machine: $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg) before the start"
printf '%-5s %-5s %9s %5s %8s %8s %8s %9s\n' way codec pictures fps p50_ms p95_ms p99_ms host_cpu
for way in ${LIVE_WAYS:-ws rtc}; do
    for codec in vp8 h264; do
        stream=$(api POST /api/v1/streams '{"chain": [{"plugin": "passthrough"}]}')
        key=$(jq -r .publish_key <<<"$stream") view=$(jq -r .playback_id <<<"$stream") id=$(jq -r .id <<<"$stream")
        before=$(ticks "$SERVER") start=$(date +%s%N)
        node "$SRC/tests/clients/latency.mjs" "$URL" "$key" "$view" --way "$way" --codec "$codec" --seconds "$SECONDS_EACH" >latency
        # in percent of a core while pictures came: Chromium's own start is not counted
        frames=$(curl -sS "$URL/api/v1/streams/$id" | jq .stats.frames_in)
        used=$(($(ticks "$SERVER") - before))
        jq -r --arg cpu "$(awk -v u="$used" -v f="$frames" -v t="$(getconf CLK_TCK)" 'BEGIN { printf "%.1f%%", f ? 100 * u / t / (f / 30) : 0 }')" \
            'if .error then "\(.error)" else [.way, .codec, .pictures, .fps, .p50_ms, .p95_ms, .p99_ms, $cpu] | @tsv end' latency |
            awk -F'\t' 'NF > 1 { printf "%-5s %-5s %9s %5s %8s %8s %8s %9s\n", $1, $2, $3, $4, $5, $6, $7, $8 } NF < 2'
        api DELETE "/api/v1/streams/$id" >/dev/null
    done
done
load() { "$TOOLS/venv/bin/python" "$SRC/tests/clients/load.py" "$URL" "$SERVER" "$@"; }
echo "without a browser (CPU in percent of one core):"
for codec in vp8 h264; do load 1 "$SECONDS_EACH" $codec; done
for codec in vp8 h264; do load 8 "$SECONDS_EACH" $codec; done

# A plugin of 60 ms fed at 30 a second: what is shown may be twice as old, no more. A parameter: a frame and 5 ms.
moody() { api POST /api/v1/streams "{\"chain\": [{\"plugin\": \"moody\", \"values\": {\"slow_ms\": $1}}], \"source\": {\"url\": \"test:\"}}" | jq -r .id; }
slow=$(moody 60) quick=$(moody 0)
sleep 12
echo "a plugin of 60 ms: $(curl -sS "$URL/api/v1/streams/$slow" | jq -c '.stats | {fps_out, age_ms, dropped}')"
echo "a parameter is in force after: $("$TOOLS/venv/bin/python" "$SRC/tests/clients/in_force.py" "$URL" "$quick" amount 100)"
rm -rf "$TMP"
