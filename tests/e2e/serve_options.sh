#!/bin/bash
# Settings of `scope serve`: flags over environment over file over defaults, and what makes no sense is
# refused with its name before anything is started.
. "$SRC/tests/e2e/lib.sh"
echo '{"port": 0, "osc_port": 0, "log": "json", "streams_max": 3, "data": "'"$TMP"'/data"}' >scope.json

value() { awk -v n="$1" '$1 == n {print $2, $3}' out; }
SCOPE_STREAMS_MAX=4 SCOPE_LOG_LEVEL=warn run 0 "$SCOPE" serve --config scope.json --log-level error --check
[ "$(value streams_max)" = '4 environment' ] || fail "streams_max: $(value streams_max)"
[ "$(value log_level)" = '"error" flag' ] || fail "log_level: $(value log_level)"
[ "$(value log)" = '"json" file' ] || fail "log: $(value log)"
[ "$(value frame_limit_s)" = '10 default' ] || fail "frame_limit_s: $(value frame_limit_s)"
says out 'The server can start.' 'org.example.invert' 'WebRTC'

complains 2 '--port: "eighty"' "$SCOPE" serve --port eighty
complains 2 'SCOPE_PORT: "99999" is not a whole number from 0 to 65535' env SCOPE_PORT=99999 "$SCOPE" serve
complains 2 'did you mean streams_max' "$SCOPE" serve --config '{"stream_max": 3}'
complains 2 '--listen 0.0.0.0 is open to others' "$SCOPE" serve --listen 0.0.0.0
complains 2 'give an address' "$SCOPE" serve --listen nowhere.example
complains 2 '--log: "xml" is none of text|json' "$SCOPE" serve --log xml
complains 2 '--rtc-ports 9-1' "$SCOPE" serve --rtc-ports 9-1
complains 2 'none.json' "$SCOPE" serve --config none.json
complains 1 'nothing' "$SCOPE" serve --config scope.json --plugin nothing
run 1 "$SCOPE" serve --config scope.json --data /proc/none --check
says err '--data /proc/none'

# a port in use, and a missing element, are named
serve
complains 1 "$PORT" "$SCOPE" serve --port "$PORT" --osc-port 0 --data "$TMP/data"
answers 200 GET /health
is '.status == "ok" and .active_streams == 0'
rss=$(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$SERVER/status")
echo "idle: $rss MB resident"
[ -n "${SAN:-}" ] || [ "$rss" -le 40 ] || fail "an idle server takes $rss MB"
GST_PLUGIN_FEATURE_RANK= GST_PLUGIN_SYSTEM_PATH_1_0=$TMP/none GST_REGISTRY=$TMP/registry "$SCOPE" serve --config scope.json --check >out 2>err
says out 'gstreamer1.0-'
