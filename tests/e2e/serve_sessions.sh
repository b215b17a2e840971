#!/bin/bash
# 200 sessions of each kind, opened and closed in every way, leave nothing behind: memory within 2%, the same
# descriptors, threads and processes; the stream beside them goes on.
. "$SRC/tests/e2e/lib.sh"
SESSIONS=${SESSIONS:-200}
serve
id=$(api POST /api/v1/streams '{"chain": [{"plugin": "passthrough"}], "source": {"url": "test:"}}' | jq -r .id)
shown() { curl -sS "$URL/api/v1/streams/$id" | jq .stats.frames_out; }
await 30 sh -c "[ \$(curl -sS $URL/api/v1/streams/$id | jq .stats.frames_out) -gt 10 ]"
# settled TAG: wait until nothing of past sessions is left, and note what there is
settled() {
    await 20 sh -c "curl -sS $URL/metrics | grep -q '^scope_http_websockets 0$'"
    sleep 3 # encoders end two seconds after their last viewer
    curl -sS "$URL/metrics" >"metrics.$1"
    for name in process_resident_memory_bytes process_open_fds process_threads scope_streams; do
        awk -v n="$name" '$1 == n {printf "%s %d\n", n, $2}' "metrics.$1"
    done >"now.$1"
    echo "processes $(pgrep -c -P "$SERVER")" >>"now.$1"
    echo "$1: $(paste -sd' ' "now.$1")"
}
sessions() { timeout 250 "$TOOLS/venv/bin/python" "$SRC/tests/clients/sessions.py" "$URL" "$id" "$1" || fail "the sessions went wrong"; }
# What is loaded, pooled or kept (a thousand lines of log) once is not a leak: a leak grows every time.
grown() {
    paste -d' ' now.before now.after | awk '
        $1 ~ /memory/ && $4 > 1.02 * $2 { print "memory grew from " $2 " to " $4; bad = 1 }
        $1 !~ /memory/ && $4 > $2 { print $1 " grew from " $2 " to " $4; bad = 1 }
        END { exit !bad }'
}
shown_before=$(shown)
sessions 40
settled after
for round in 1 2 3 4; do
    mv now.after now.before
    sessions "$SESSIONS"
    settled after
    grown || break
done
[ "$(shown)" -gt "$shown_before" ] || fail "the stream stood still"
! grown || fail "sessions leave something behind"
