#!/bin/bash
# What inputs look like survives: rate, duration, variable frame rate, sound, rotation, odd sizes,
# alpha, 10 bit, interlacing, a change of size.
. "$SRC/tests/e2e/lib.sh"
command -v gst-launch-1.0 >/dev/null || {
    echo "needs gst-launch-1.0 (package gstreamer1.0-tools)"
    exit 77
}
make_clip() { gst-launch-1.0 -q $1 >/dev/null 2>launch.err || fail "cannot make a clip: $(cat launch.err)"; }
# The time of each buffer of a file's first video (or another caps) stream.
times() {
    gst-launch-1.0 -v filesrc location="$1" ! parsebin name=d d. ! "${2:-video/x-h264}" ! \
        identity name=look silent=false ! fakesink 2>/dev/null |
        sed -n 's/.*chain .*pts: \([0-9:.]*\),.*/\1/p' | sort
}
pictures() { # FILE: its frames, as a number
    rm -rf n && "$SCOPE" run -q "$1" -o n/ && ls n | wc -l
}
size_of() { # PNG
    od -An -tu1 -j16 -N8 "$1" | awk '{print $3*256+$4 "x" $7*256+$8}'
}
source="videotestsrc num-buffers=30 ! video/x-raw,format=I420,width=64,height=48,framerate=15/1"

# sound, rate and duration
make_clip "$source ! x264enc ! h264parse ! queue ! mp4mux name=m ! filesink location=av.mp4
    audiotestsrc num-buffers=90 ! audio/x-raw,rate=44100,channels=2 ! avenc_aac ! aacparse ! queue ! m."
times av.mp4 >want
for ending in mp4 mkv; do
    run 0 "$SCOPE" run --plugin invert av.mp4 -o "out.$ending"
    [ "$(times out.$ending | wc -l)" = 30 ] || fail "$ending: $(times out.$ending | wc -l) frames"
    [ "$(times out.$ending audio/mpeg | wc -l)" -ge 85 ] || fail "$ending: the sound is gone or short"
done
times out.mp4 | cmp - want || fail "the times of frames are not kept"
run 0 "$SCOPE" run av.mp4 -o out.webm
[ "$(times out.webm audio/x-opus | wc -l)" -ge 95 ] || fail "webm: the sound is gone or short"
run 0 "$SCOPE" run av.mp4 -o - # one sound is enough: none of it goes into a pipe
# a part of it: the sound is cut to the picture
run 0 "$SCOPE" run av.mp4 --start 0.6 --frames 6 -o part.mp4
[ "$(times part.mp4 | wc -l)" = 6 ] || fail "--frames 6 made $(times part.mp4 | wc -l)"
n=$(times part.mp4 audio/mpeg | wc -l)
[ "$n" -ge 15 ] && [ "$n" -le 24 ] || fail "0.4 s of sound are $n frames"
run 0 "$SCOPE" run av.mp4 -o - ; head -c 2000000 out >all.y4m
run 0 "$SCOPE" run av.mp4 --start 0.6 --frames 6 -o - ; mv out six.y4m
frame=$((6 + 64 * 48 * 3)) header=$(head -n 1 all.y4m | wc -c)
cmp <(tail -c +$((header + 9 * frame + 1)) all.y4m | head -c $((6 * frame))) \
    <(tail -c +$((header + 1)) six.y4m) || fail "--start 0.6 is not frame 9"

# another rate: frames are repeated or dropped, the duration stays
run 0 "$SCOPE" run av.mp4 --fps 30 -o fast.mp4
n=$(times fast.mp4 | wc -l)
[ "$n" -ge 59 ] && [ "$n" -le 60 ] || fail "--fps 30 made $n frames of 2 s"
run 0 "$SCOPE" run av.mp4 --fps 5 -o slow.mp4
n=$(times slow.mp4 | wc -l)
[ "$n" -ge 10 ] && [ "$n" -le 11 ] || fail "--fps 5 made $n frames of 2 s"

# variable frame rate: half the frames of the middle are missing
make_clip "videotestsrc num-buffers=20 ! video/x-raw,format=I420,width=64,height=48,framerate=20/1 !
    identity drop-probability=0.5 ! x264enc bframes=0 ! h264parse ! matroskamux ! filesink location=vfr.mkv"
times vfr.mkv >want
[ "$(wc -l <want)" -lt 20 ] || fail "the clip is not of variable rate"
for ending in mkv mp4; do
    run 0 "$SCOPE" run --plugin invert vfr.mkv -o "vfr-out.$ending"
    times vfr-out.$ending >have
    # a muxer may shift all times and say so in its header; the distances count
    paste want have | awk -F'[:\t]' 'NR==1 {o=$3-$6} {d=$3-$6-o; if (d*d>0.0011*0.0011) exit 1}' ||
        fail "$ending: variable frame rate is not kept: $(paste want have)"
done

# rotation: a phone's video is 64x48 with a matrix that turns it
make_clip "$source ! x264enc ! h264parse ! mp4mux ! filesink location=turned.mp4"
at=$(($(grep -abo tkhd turned.mp4 | head -n 1 | cut -d: -f1) + 44))
printf '\0\0\0\0\0\1\0\0\0\0\0\0\377\377\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\100\0\0\0' |
    dd of=turned.mp4 bs=1 seek=$at conv=notrunc 2>/dev/null
run 0 "$SCOPE" run turned.mp4 --frames 1 -o turned.png
[ "$(size_of turned.png)" = 48x64 ] || fail "a turned video came out as $(size_of turned.png)"

# odd sizes: H.264 loses a pixel and says so, once; the others keep it
run 0 "$SCOPE" run --plugin color --frames 4 --size 63x47 -o odd.mp4
[ "$(grep -c "cropped to 62x46" err)" = 1 ] || fail "the crop is not told: $(cat err)"
run 0 "$SCOPE" run --plugin color --frames 4 --size 63x47 -o odd.webm
[ "$(pictures odd.webm)" = 4 ] && [ "$(size_of n/000000.png)" = 63x47 ] || fail "odd WebM"

# alpha stays without a plugin, and lies on black for one that wants RGB
make_clip "videotestsrc num-buffers=1 pattern=solid-color foreground-color=0x80ff0000 ! video/x-raw,format=RGBA,width=16,height=16 ! pngenc ! filesink location=alpha.png"
run 0 "$SCOPE" run alpha.png -o same.png
[ "$(od -An -tu1 -j25 -N1 same.png)" -eq 6 ] || fail "alpha is gone"
run 0 "$SCOPE" run --plugin passthrough alpha.png -o black.png
[ "$(od -An -tu1 -j25 -N1 black.png)" -eq 2 ] || fail "alpha is still there"

# 10 bit, 4:2:2, interlaced
for format in I420_10LE Y42B Y444_10LE; do
    make_clip "videotestsrc num-buffers=5 ! video/x-raw,format=$format,width=64,height=48,framerate=15/1 !
        x264enc ! h264parse ! matroskamux ! filesink location=$format.mkv"
    run 0 "$SCOPE" run --plugin invert $format.mkv -o $format.mp4
    [ "$(times $format.mp4 | wc -l)" = 5 ] || fail "$format: $(times $format.mp4 | wc -l) of 5 frames"
done
make_clip "$source ! interlace ! x264enc interlaced=true ! h264parse ! matroskamux ! filesink location=interlaced.mkv"
n=$(pictures interlaced.mkv)
run 0 "$SCOPE" run interlaced.mkv -o progressive.mp4
[ "$(times progressive.mp4 | wc -l)" = "$n" ] && [ "$n" -ge 10 ] || fail "interlaced: $n frames"

# the size changes on the way: the first one stays
mkdir mixed
run 0 "$SCOPE" run --plugin color --frames 2 --size 64x48 -o "mixed/a%d.png"
run 0 "$SCOPE" run --plugin color --frames 2 --size 40x80 -o "mixed/b%d.png"
run 0 "$SCOPE" run mixed -o mixed.mp4
[ "$(pictures mixed.mp4)" = 4 ] && [ "$(size_of n/000003.png)" = 64x48 ] || fail "a change of size"

# --size and --fit
for fit in crop pad stretch; do
    run 0 "$SCOPE" run av.mp4 --size 32x32 --fit $fit --frames 1 -o $fit.png
    [ "$(size_of $fit.png)" = 32x32 ] || fail "--fit $fit: $(size_of $fit.png)"
done
! cmp -s crop.png pad.png && ! cmp -s crop.png stretch.png || fail "--fit makes no difference"
exit 0
