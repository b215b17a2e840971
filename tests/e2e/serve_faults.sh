#!/bin/bash
# Plugins that crash, hang, leak, write where they may not or fail: the stream shows its last good frame and
# says why, a fresh worker starts with the parameters that were in force, and nobody else notices.
. "$SRC/tests/e2e/lib.sh"
SLACK=${SLACK:-1} # sanitized programs are slower
mkdir plugins
"${CC:-cc}" -std=gnu11 -O1 -Wall -Werror -fPIC -shared -fvisibility=hidden -I"$SRC/plugin" -o plugins/moody.so "$SRC/tests/abi/moody.c"
serve --plugins "$TMP/plugins" --frame-limit-s 1 --worker-memory-mb 300

# made CHAIN: a stream with this chain and a moving picture; its id on stdout
made() { api POST /api/v1/streams "{\"chain\": $1, \"source\": {\"url\": \"test:\"}}" | jq -er .id || fail "not made: $(cat api.out)"; }
stat() { curl -sS -m 10 "$URL/api/v1/streams/$1" | jq -r "$2"; }
holds() { [ "$(stat "$1" "$2")" = true ]; }
metric() { curl -sS -m 10 "$URL/metrics" | awk -v n="$1" '$1 == n {print $2}'; }
set_moody() { api PATCH "/api/v1/streams/$1/links/0" "{\"values\": $2}" >/dev/null; }

calm=$(made '[{"plugin": "passthrough"}]')
await 30 holds "$calm" '.state == "online" and .stats.frames_out > 10'

# each mood breaks a running stream in its way; it comes back by itself, again and again, with its values
for case in segv:crashed abort:crashed exit:itself hang:answer leak:memory overrun:wrote device:device; do
    mood=${case%:*} word=${case#*:}
    id=$(made "[{\"plugin\": \"moody\", \"values\": {\"mood\": \"$mood\", \"after\": 45, \"amount\": 3}}]")
    await 30 holds "$id" '.stats.restarts >= 2 and .stats.frames_out > 20'
    await 10 sh -c "curl -s $URL/api/v1/logs | jq -e '[.lines[].text | select(test(\"moody\") and test(\"$word\"))] | length > 0'"
    [ "$(stat "$id" '.chain[0].values.amount')" = 3 ] || fail "$mood: values were lost"
    answers 200 DELETE "/api/v1/streams/$id"
done
# what fails without dying costs that frame alone
id=$(made '[{"plugin": "moody", "values": {"mood": "tenth", "after": 0}}]')
await 20 holds "$id" '.stats.failed >= 3 and .stats.frames_out > 20 and .stats.restarts == 0'
holds "$id" '.stats.last_error | test("every tenth frame fails")' || fail "the reason is not told: $(cat api.out)"
set_moody "$id" '{"mood": "nan"}'
before=$(stat "$id" .stats.frames_out)
await 20 holds "$id" ".stats.frames_out > $before + 10"
set_moody "$id" '{"mood": "nothing"}'
await 20 holds "$id" '.stats.skipped > 5'
set_moody "$id" '{"mood": "good"}'
await 20 holds "$id" '.state == "online" and .notice == ""'
# a pipeline that cannot be loaded leaves the old one in force, and says why
answers 200 PATCH "/api/v1/streams/$id" '{"chain": [{"plugin": "moody", "values": {"load_mb": 20000}}]}'
await 20 holds "$id" '.notice | test("20000 MB are too much")'
await 20 holds "$id" '.chain[0].values.load_mb == 0 and .state == "online"'
answers 200 DELETE "/api/v1/streams/$id"

# killed 20 times in mid-stream: frames flow again within two seconds each time, and viewers stay
id=$(made '[{"plugin": "invert"}]')
await 30 holds "$id" '.state == "online" and .stats.frames_out > 10'
view=$(stat "$id" .playback_id)
"$TOOLS/venv/bin/python" "$SRC/tests/clients/watch.py" "ws://127.0.0.1:$PORT/live/$view/view" 600 >watched &
watcher=$!
slowest=0
for n in $(seq 20); do
    pid=$(curl -sS "$URL/api/v1/workers" | jq '.workers[] | select(.plugin | test("invert")) | .pid')
    started=$(date +%s%N)
    kill -KILL "$pid"
    await $((10 * SLACK)) holds "$id" ".stats.restarts >= $n"
    before=$(stat "$id" .stats.frames_out)
    await $((10 * SLACK)) holds "$id" ".stats.frames_out > $before + 1 and .state == \"online\""
    took=$((($(date +%s%N) - started) / 1000000))
    [ "$took" -gt "$slowest" ] && slowest=$took
    await 30 holds "$id" '.state == "online"'
done
echo "20 kills: back within $slowest ms at worst"
kill -0 "$watcher" || fail "the viewer was thrown out: $(cat watched)"
kill "$watcher"
wait "$watcher" 2>/dev/null

# the calm stream has not noticed any of it
[ "$(stat "$calm" .stats.restarts)" = 0 ] || fail "another stream was restarted"
[ "$(stat "$calm" '.stats.fps_out > 10')" = true ] || fail "another stream was disturbed: $(stat "$calm" .stats)"
[ "$(pgrep -c -P "$SERVER")" -le 2 ] || fail "processes are left: $(pgrep -a -P "$SERVER")"
