#!/bin/bash
# Outputs besides viewers, each taken by a program that is not ours: recordings by ffprobe, RTMP by nginx,
# HLS and SRT by ffmpeg; what happens when nobody is there, and when the disk is full.
. "$SRC/tests/e2e/lib.sh"
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
stream() { api POST /api/v1/streams "$1" | jq -er .id || fail "not made: $(cat api.out)"; }
output() { api POST "/api/v1/streams/$id/outputs" "$1" | jq -er .id || fail "not made: $(cat api.out)"; }
now() { curl -sS -m 10 "$URL/api/v1/streams/$id/outputs" | jq -r ".outputs[] | select(.id == \"$1\") | $2"; }
holds() { [ "$(now "$1" "$2")" = true ]; }
probe() { ffprobe -v error -count_frames -show_entries "$@" -of json; }
# whole FILE: times increase, the length is the stream's, sound is there and as long
whole() {
    probe frame=pts_time:stream=codec_name,codec_type,duration,nb_read_frames "$1" >probe.json || fail "$1 cannot be read"
    jq -e '[.streams[].codec_name] | sort == ["aac", "h264"]' probe.json >/dev/null || fail "$1: $(jq -c .streams probe.json)"
    ffprobe -v error -select_streams v -show_entries frame=pts_time -of default=nk=1:nw=1 "$1" | grep . |
        awk 'NR > 1 && $1 <= last { exit 1 } { last = $1 }' || fail "$1: times do not increase"
    jq -e '[.streams[].duration | tonumber] | (max - min) < 0.7' probe.json >/dev/null || fail "$1: $(jq -c .streams probe.json)"
}
seconds() { jq -r '.streams[] | select(.codec_type == "video") | .duration' probe.json; }
frames() { jq -r '.streams[] | select(.codec_type == "video") | .nb_read_frames' probe.json; }

serve
id=$(stream '{"name": "Outputs", "chain": [{"plugin": "passthrough"}], "source": {"url": "test:tone", "fps": 15}}')
await 30 sh -c "curl -sS $URL/api/v1/streams/$id | jq -e '.stats.frames_out > 5'"

# ---- a recording plays at its real speed, and holds every frame that was not counted as dropped
rec=$(output '{"kind": "record"}')
await 20 holds "$rec" '.state == "live"'
began=$(date +%s.%N)
await 30 holds "$rec" '.seconds > 4'
answers 200 DELETE "/api/v1/streams/$id/outputs/$rec"
took=$(date +%s.%N | awk -v a="$began" '{print $1 - a}')
is '.state == "done" and .bytes > 10000 and (.name | test("^Outputs-[0-9-]+\\.mp4$"))'
name=$(jq -r .name api.out) told=$(jq -r .seconds api.out) told_frames=$(jq -r .frames api.out)
answers 200 GET "/api/v1/recordings/$name"
cp api.out take.mp4
whole take.mp4
[ "$(frames)" = "$told_frames" ] || fail "$(frames) frames, not $told_frames"
awk -v a="$(seconds)" -v b="$told" 'BEGIN { exit !(a > b * 0.95 && a < b * 1.05 + 0.1) }' || fail "$(seconds) s, not $told"
awk -v a="$told" -v b="$took" 'BEGIN { exit !(a > 3.9 && a < b + 2) }' || fail "recorded $told s in $took s"
python3 "$SRC/tests/clients/in_sync.py" take.mp4 15 || fail "the recording is out of time"

# ---- RTMP: nobody there, then somebody; gone, and back
rtmp=$(free_port)
out=$(output "{\"kind\": \"rtmp\", \"url\": \"rtmp://127.0.0.1:$rtmp/live/secret\", \"bitrate_kbps\": 800}")
await 20 holds "$out" '.state == "retrying" and (.reason | test("refused")) and (.url | test("secret") | not)'
await 5 sh -c "curl -sS $URL/api/v1/streams/$id | jq -e '.notice | test(\"refused\")'"
cat >nginx.conf <<END
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off; pid $TMP/nginx.pid; error_log $TMP/nginx.log; worker_processes 1;
events { worker_connections 64; }
rtmp { server { listen 127.0.0.1:$rtmp; application live { live on; } } }
END
start_nginx() { nginx -e "$TMP/nginx.log" -p "$TMP" -c "$TMP/nginx.conf" >nginx.out 2>&1 & NGINX=$!; }
stop_nginx() { kill "$NGINX"; wait "$NGINX"; }
start_nginx
await 30 holds "$out" '.state == "live"'
pull() { timeout 30 ffmpeg -v error -rw_timeout 10000000 -i "rtmp://127.0.0.1:$rtmp/live/secret" -t 2 -c copy -f flv -y pulled.flv; }
await 30 pull
[ "$(probe stream=codec_name pulled.flv | jq -c '[.streams[].codec_name] | sort')" = '["aac","h264"]' ] || fail "RTMP brings $(probe stream=codec_name pulled.flv)"
stop_nginx
await 30 holds "$out" '.state == "retrying"'
start_nginx
await 30 holds "$out" '.state == "live"'
answers 200 DELETE "/api/v1/streams/$id/outputs/$out"
stop_nginx
await 5 sh -c "curl -sS $URL/api/v1/streams/$id | jq -e '.notice == \"\"'"

# ---- HLS: a playlist that moves on, pieces that can be played, and nothing else behind that address
key=$(api GET "/api/v1/streams/$id" | jq -r .playback_id)
answers 404 GET "/live/$key/hls/index.m3u8"
hls=$(output '{"kind": "hls"}')
await 30 sh -c "curl -sSf $URL/live/$key/hls/index.m3u8 | grep -q '\\.ts'"
timeout 60 ffmpeg -v error -i "$URL/live/$key/hls/index.m3u8" -t 3 -c copy -y pulled.ts || fail "HLS cannot be played"
[ "$(probe stream=codec_name pulled.ts | jq -c '[.streams[].codec_name] | sort')" = '["aac","h264"]' ] || fail "HLS brings $(probe stream=codec_name pulled.ts)"
for path in ../../../etc/passwd %2e%2e%2fpasswd index.m3u8%00 s1-1.ts ..%2f..%2f..%2fetc%2fpasswd s-.ts; do
    code=$(curl -sS --path-as-is -o hls.out -w '%{http_code}' "$URL/live/$key/hls/$path")
    [[ $code = 40* ]] || fail "hls/$path answers $code"
done
answers 200 DELETE "/api/v1/streams/$id/outputs/$hls"
answers 404 GET "/live/$key/hls/index.m3u8"

# ---- SRT, to a listener
srt=$(free_port)
timeout 60 ffmpeg -v error -i "srt://127.0.0.1:$srt?mode=listener" -frames:v 30 -c copy -f mpegts -y srt.ts &
listener=$!
out=$(output "{\"kind\": \"srt\", \"url\": \"srt://127.0.0.1:$srt\"}")
wait "$listener" || fail "nothing came over SRT: $(now "$out" .)"
[ "$(probe stream=codec_name srt.ts | jq -c '[.streams[].codec_name] | sort')" = '["aac","h264"]' ] || fail "SRT brings $(probe stream=codec_name srt.ts)"
await 20 holds "$out" '.state == "retrying"'
answers 200 DELETE "/api/v1/streams/$id/outputs/$out"

# ---- what cannot be
for body in '{"kind": "record", "name": "../x"}' '{"kind": "rtmp", "url": "file:///x"}' '{"kind": "tape"}' '{"kind": "v4l2", "url": "/dev/video987"}'; do
    answers 400 POST "/api/v1/streams/$id/outputs" "$body"
done
is '.error | test("v4l2loopback")'
answers 404 DELETE "/api/v1/streams/$id/outputs/out_999"

# ---- the end of the server finishes a recording; what a killed one leaves is whole after the next start
rec=$(output '{"kind": "record", "name": "last"}')
await 20 holds "$rec" '.seconds > 1.5'
kill -TERM "$SERVER"
wait "$SERVER" || fail "the server ended with $?"
whole data/recordings/last.mp4
serve
id=$(stream '{"name": "Killed", "source": {"url": "test:tone", "fps": 15}}')
await 20 sh -c "curl -sS $URL/api/v1/streams/$id | jq -e '.stats.frames_out > 5'"
rec=$(output '{"kind": "record", "name": "killed"}')
await 40 holds "$rec" '.seconds > 10'
kill -KILL "$SERVER"
wait "$SERVER"
serve
await 10 test -e data/recordings/killed.mp4
whole data/recordings/killed.mp4
awk -v a="$(seconds)" 'BEGIN { exit !(a > 3) }' || fail "$(seconds) s are left of 10"
kill -TERM "$SERVER"
wait "$SERVER" || fail "the server ended with $?"

# ---- a disk that fills up: at once, as a file that may not grow; and slowly
trap '' XFSZ
ulimit -S -f 3000
serve
ulimit -S -f unlimited
id=$(stream '{"source": {"url": "test:tone"}}')
await 20 sh -c "curl -sS $URL/api/v1/streams/$id | jq -e '.stats.frames_out > 5'"
rec=$(output '{"kind": "record", "name": "full"}')
await 60 holds "$rec" '.state == "failed"'
[ "$(now "$rec" '.reason == ""')" = false ] || fail "no reason: $(now "$rec" .)"
whole data/recordings/full.mp4
answers 200 DELETE "/api/v1/streams/$id/outputs/$rec"
is '.state == "failed"'
kill -TERM "$SERVER"
wait "$SERVER" || fail "the server ended with $?"
trap - XFSZ
if unshare -m true 2>/dev/null; then
    cat >small-disk <<END
#!/bin/sh
exec unshare -m sh -c 'mount -t tmpfs -o size=56m none "$TMP/data" && exec "$SCOPE" "\$@"' sh "\$@"
END
    chmod +x small-disk
    SCOPE=$TMP/small-disk serve
    id=$(stream '{"source": {"url": "test:tone"}}')
    await 20 sh -c "curl -sS $URL/api/v1/streams/$id | jq -e '.stats.frames_out > 5'"
    rec=$(output '{"kind": "record", "name": "slowly"}')
    await 20 holds "$rec" '.seconds > 2'
    head -c 45000000 /dev/zero | curl -sS -o fill.out -T - "$URL/api/v1/assets/fill.bin"
    await 20 holds "$rec" '.state == "failed" and (.reason | test("disk is full"))'
    answers 200 GET /api/v1/recordings/slowly.mp4
    cp api.out slowly.mp4
    whole slowly.mp4
    answers 500 POST "/api/v1/streams/$id/outputs" '{"kind": "record"}'
    is '.error | test("only [0-9]+ MB are free")'
fi
