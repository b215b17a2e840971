#!/bin/bash
# 200 WebRTC sessions, publishers and viewers, that end in every way leave nothing behind: memory within 2%, the same
# threads and processes, and descriptors but for those of one session (libnice keeps those of about one in a
# thousand that end while they gather).
. "$SRC/tests/e2e/lib.sh"
SESSIONS=${SESSIONS:-200}
serve
id=$(api POST /api/v1/streams '{"chain": [{"plugin": "passthrough"}]}' | jq -r .id)
sessions() { timeout 250 "$TOOLS/venv/bin/python" "$SRC/tests/clients/whip_sessions.py" "$URL" "$id" "$1" >connected || fail "the sessions went wrong"; }
# settled TAG: wait until nothing of past sessions is left, and note what there is
settled() {
    await 40 sh -c "curl -sS $URL/api/v1/streams/$id | jq -e '.stats.viewers == 0 and .source == null'"
    sleep 18 # those that did not connect in time; encoders and pools of threads that linger
    curl -sS "$URL/metrics" >"metrics.$1"
    for name in process_resident_memory_bytes process_open_fds process_threads; do
        awk -v n="$name" '$1 == n {printf "%s %d\n", n, $2}' "metrics.$1"
    done >"now.$1"
    echo "processes $(pgrep -c -P "$SERVER")" >>"now.$1"
    echo "$1: $(paste -sd' ' "now.$1")"
}
# What is loaded, pooled or taken by so many at once is not a leak: a leak grows every time.
grown() {
    paste -d' ' now.before now.after | awk '
        $1 ~ /memory/ && $4 > 1.02 * $2 { print "memory grew from " $2 " to " $4; bad = 1 }
        $1 ~ /fds/ && $4 > $2 + 12 { print "descriptors grew from " $2 " to " $4; bad = 1 }
        $1 ~ /threads|processes/ && $4 > $2 { print $1 " grew from " $2 " to " $4; bad = 1 }
        END { exit !bad }'
}
sessions "$SESSIONS"
settled after
for round in 1 2 3 4; do
    mv now.after now.before
    sessions "$SESSIONS"
    [ "$(cat connected)" -ge $((SESSIONS / 2)) ] || fail "only $(cat connected) of $((SESSIONS / 2)) connected"
    settled after
    grown || break
done
! grown || fail "sessions leave something behind"
never serve.log CRITICAL
never serve.log assertion
