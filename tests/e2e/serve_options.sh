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
complains 2 '--rtc-ports 50000-50100x' "$SCOPE" serve --rtc-ports 50000-50100x
complains 2 '--h264: "fastest" is none of x264enc|openh264enc' "$SCOPE" serve --h264 fastest
complains 2 'give stun:HOST:PORT' "$SCOPE" serve --ice-servers stun:stun.example:3478,turn:me@turn.example:3478
complains 2 'say with --plugin what it is for' "$SCOPE" serve --preset calm
complains 2 'give the certificate' "$SCOPE" serve --tls self --tls-key key.pem
complains 2 'none.json' "$SCOPE" serve --config none.json
complains 1 'nothing' "$SCOPE" serve --config scope.json --plugin nothing
run 1 "$SCOPE" serve --config scope.json --data /proc/none --check
says err '--data /proc/none'

run 1 "$SCOPE" serve --config scope.json --plugin nothing --check
says err 'nothing'
says out 'The server cannot start.'

# nothing said is the default; passwords are not told
SCOPE_LISTEN= SCOPE_TLS= SCOPE_DATA= SCOPE_OSC_LISTEN= run 0 "$SCOPE" serve --port 0 --osc-port 0 --data "$TMP/data" \
    --ice-servers turn:me:hidden@turn.example:3478 --plugin invert --source rtsp://me:hidden@camera.example/ --check
[ "$(value listen)" = '"127.0.0.1" environment' ] || fail "listen: $(value listen)"
grep -q hidden out && fail "a password is told: $(cat out)"

# a port in use, and a missing element, are named
serve
complains 1 "$PORT" "$SCOPE" serve --port "$PORT" --osc-port 0 --data "$TMP/data"
answers 200 GET /health
is '.status == "ok" and .active_streams == 0'
rss=$(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$SERVER/status")
echo "idle: $rss MB resident"
[ -n "${SAN:-}" ] || [ "$rss" -le 40 ] || fail "an idle server takes $rss MB"

# a change is made whole or not at all
id=$(api POST /api/v1/streams '{"name": "first", "chain": []}' | jq -r .id)
answers 400 PATCH "/api/v1/streams/$id" '{"name": "second", "chain": [{"plugin": "invert"}], "source": {"url": "nowhere.mp4"}}'
answers 400 PATCH "/api/v1/streams/$id" '{"name": "second", "chain": [{"plugin": "nothing"}]}'
answers 200 GET "/api/v1/streams/$id"
is '.name == "first" and .chain == []'

# recordings by any name that they may have are reached, one under way is not; pictures of any size do no harm
mkdir -p data/recordings
touch 'data/recordings/Bühne #1.mp4' data/recordings/new.mp4.part
answers 200 GET /api/v1/recordings
is '[.recordings[].name] == ["Bühne #1.mp4"]'
answers 200 GET '/api/v1/recordings/B%C3%BChne%20%231.mp4'
answers 404 DELETE /api/v1/recordings/new.mp4.part
answers 400 DELETE '/api/v1/recordings/..%2Frecordings%2FB%C3%BChne%20%231.mp4'
answers 200 DELETE '/api/v1/recordings/B%C3%BChne%20%231.mp4'
rm data/recordings/new.mp4.part
python3 - <<'END'
import struct, zlib
def part(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
for name, w, h in ("small", 64, 48), ("large", 9000, 9000):
    with open(name + ".png", "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))
                + part(b"IDAT", zlib.compress(bytes((3 * w + 1) * min(h, 48)))) + part(b"IEND", b""))
END
put() { curl -sS -m 30 -o api.out -w '%{http_code}' -H 'Content-Type: image/png' -T "$1" "$URL/api/v1/streams/$id/inputs/mask"; }
[ "$(put small.png)" = 200 ] || fail "$(cat api.out)"
[ "$(put large.png)" = 400 ] || fail "$(cat api.out)"
says api.out 'larger than 8192 x 8192'

# names cut within a character do no harm to who hears of them
cat >control.py <<'END'
import asyncio, json, sys
import websockets
async def main():
    async with websockets.connect(sys.argv[1]) as ws:
        for n, link in (1, 0), (2, 1 << 32), (3, "0"):
            await ws.send(json.dumps({"type": "set", "link": link, "n": n, "values": {"é" * 40: 1}}))
        while (m := json.loads(await asyncio.wait_for(ws.recv(), 20))).get("n") != 3:
            if m["type"] == "refused":
                print(m["n"], m["field"], m["error"])
asyncio.run(main())
END
answers 200 PATCH "/api/v1/streams/$id" '{"chain": [{"plugin": "invert"}]}'
timeout 30 "$TOOLS/venv/bin/python" control.py "ws${URL#http}/api/v1/streams/$id/control" >heard || fail "the server is gone"
says heard '1 é' '2  set: give a link from 0 to 0'
GST_PLUGIN_FEATURE_RANK= GST_PLUGIN_SYSTEM_PATH_1_0=$TMP/none GST_REGISTRY=$TMP/registry "$SCOPE" serve --config scope.json --check >out 2>err
says out 'gstreamer1.0-'
