#!/bin/bash
# Sources that the server opens itself: files, HTTP, HLS, RTMP, RTSP; what stalls, ends, changes in mid-stream
# or is no picture at all is told, and tried again by itself.
. "$SRC/tests/e2e/lib.sh"
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
export SCOPE_LOCAL_FILES=false
serve
id=$(api POST /api/v1/streams '{"name": "Sources"}' | jq -er .id) || fail "not made: $(cat api.out)"
now() { curl -sS -m 10 "$URL/api/v1/streams/$id" | jq -r "$1"; }
holds() { [ "$(now "$1")" = true ]; }
source_is() { answers 200 PATCH "/api/v1/streams/$id" "{\"source\": $1}"; }
# plays SOURCE FILTER: it is live within some time, frames go on, and the filter holds
plays() {
    local before
    source_is "$1"
    await 30 holds '.source.state == "live"'
    before=$(now .stats.frames_out)
    await 30 holds ".stats.frames_out > $before + 15 and .notice == \"\" and ($2)"
}

clip() { ffmpeg -v error -f lavfi -i "testsrc2=size=$1:rate=20" -f lavfi -i sine -t "$2" "${@:4}" -y "$3" || fail "no $3"; }
clip 160x120 1.5 clip.mp4 -c:v libx264 -g 20 -c:a aac
clip 200x100 3 clip.ts -c:v libx264 -g 20 -c:a aac

# ---- a file of the assets, in a loop; and nothing beside them
curl -sSf -o put.out -T clip.mp4 "$URL/api/v1/assets/clip.mp4" || fail "not taken: $(cat put.out)"
cp clip.mp4 data/outside.mp4
plays '{"url": "clip.mp4"}' '.source.kind == "file" and .stats.w == 160 and .source.frames > 35'
for url in ../outside.mp4 "$TMP/clip.mp4" "file://$TMP/clip.mp4" /etc/passwd nothing.mp4 gopher://x ''; do
    answers 400 PATCH "/api/v1/streams/$id" "{\"source\": {\"url\": \"$url\"}}"
    is '.details.field == "url"'
done
holds '.source.about == "clip.mp4"' || fail "a refused source changed the one there was"
source_is '{"url": "clip.mp4", "loop": false}'
await 20 holds '.source.state == "ended" and (.notice | test("clip.mp4 has ended"))'
source_is null
holds '.source == null and .notice == ""' || fail "still there: $(now .source)"

# ---- no video at all; a playlist that leads to a file of the server
head -c 20000 /dev/urandom | curl -sSf -o put.out -T - "$URL/api/v1/assets/noise.mp4"
source_is '{"url": "noise.mp4"}'
await 20 holds '.source.state == "retrying" and (.notice | test("noise.mp4.*trying again"))'

# ---- HTTP: a file, HLS of another stream of this server, what is not there
mkdir www && cp clip.mp4 www
printf '#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://%s/clip.ts\n#EXT-X-ENDLIST\n' "$TMP" >www/stray.m3u8
python3 -u -m http.server -d www --bind 127.0.0.1 0 >http.out 2>&1 &
http_server=$!
await 10 grep -q 'port [0-9]' http.out
http=http://127.0.0.1:$(sed -n 's/.*port \([0-9]*\).*/\1/p' http.out)
plays "{\"url\": \"$http/clip.mp4\"}" '.source.kind == "url" and .stats.h == 120'
source_is "{\"url\": \"$http/none.mp4\"}"
await 20 holds '.source.state == "retrying" and (.notice | test("none.mp4"))'
source_is "{\"url\": \"$http/stray.m3u8\"}"
await 30 holds '.source.state == "retrying" and .source.frames == 0'
kill "$http_server"
other=$(api POST /api/v1/streams '{"source": {"url": "test:tone"}}' | jq -er .id)
key=$(api GET "/api/v1/streams/$other" | jq -r .playback_id)
answers 201 POST "/api/v1/streams/$other/outputs" '{"kind": "hls"}'
await 30 curl -sSf "$URL/live/$key/hls/index.m3u8"
plays "{\"url\": \"$URL/live/$key/hls/index.m3u8\"}" '.stats.w == 640'

# ---- RTMP: another stream of this server, by way of nginx; which ends, and comes back
rtmp=$(free_port)
cat >nginx.conf <<END
load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off; pid $TMP/nginx.pid; error_log $TMP/nginx.log; worker_processes 1;
events { worker_connections 64; }
rtmp { server { listen 127.0.0.1:$rtmp; application live { live on; drop_idle_publisher 5s; } } }
END
start_nginx() { nginx -e "$TMP/nginx.log" -p "$TMP" -c "$TMP/nginx.conf" >nginx.out 2>&1 & NGINX=$!; }
stop_nginx() { kill "$NGINX"; wait "$NGINX"; }
start_nginx
answers 201 POST "/api/v1/streams/$other/outputs" "{\"kind\": \"rtmp\", \"url\": \"rtmp://127.0.0.1:$rtmp/live/x\"}"
await 20 sh -c "curl -sS $URL/api/v1/streams/$other/outputs | jq -e '.outputs[1].state == \"live\"'"
plays "{\"url\": \"rtmp://user:word@127.0.0.1:$rtmp/live/x\"}" ".source.about == \"rtmp://127.0.0.1:$rtmp/live/x\""
stop_nginx
await 30 holds '.source.state == "retrying" and (.notice | test("trying again"))'
start_nginx
await 40 holds '.source.state == "live"'
before=$(now .stats.frames_out)
await 30 holds ".stats.frames_out > $before + 15"
stop_nginx
answers 200 DELETE "/api/v1/streams/$other"

# ---- RTSP: plays; a camera that hangs, and goes on
rate=$(($(stat -c %s clip.ts) / 3))
python3 "$SRC/tests/clients/rtsp.py" clip.ts $rate >rtsp.out 2>rtsp.err &
camera=$!
await 10 test -s rtsp.out
plays "{\"url\": \"rtsp://127.0.0.1:$(cat rtsp.out)/x\"}" '.stats.w == 200'
kill -STOP $camera
await 30 holds '.source.state == "retrying" and (.notice | test("no picture for 10 seconds"))'
shown=$(now .stats.frames_out)
kill -CONT $camera
await 40 holds ".source.state == \"live\" and .stats.frames_out > $shown"
answers 200 PATCH "/api/v1/streams/$id" '{"source": null}'
kill $camera

# ---- size and codec change in mid-stream
clip 320x240 1.5 second.ts -c:v libx264 -g 20 -c:a aac
clip 100x80 1.5 third.ts -c:v mpeg2video -c:a mp2
cat clip.ts second.ts third.ts | curl -sSf -o put.out -T - "$URL/api/v1/assets/changes.ts"
source_is '{"url": "changes.ts", "fps": 20}'
for w in 200 320 100 200; do
    await 30 holds ".stats.w == $w"
done
