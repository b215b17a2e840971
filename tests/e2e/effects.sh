#!/bin/bash
# What surrounds the networks, through `scope run`: skipped frames and their count, loopback, masks
# by alpha and by a second input, bypass with a fade; on the model that ships.
. "$SRC/tests/e2e/lib.sh"
model=$SRC/examples/models/tiny
sd() { # OUTPUT ARGUMENT...: a run of the plugin at 64 x 64
    local output=$1
    shift
    run 0 "$SCOPE" run --plugin streamdiffusion --model "$model" --prompt neon --size 64x64 -y "$@" -o "$output"
}
luma() { # FOLDER X Y: that pixel of each frame
    "$SCOPE" run -q "$1" -o luma.y4m -y
    od -An -v -tu1 -w$((6 + 3 * 64 * 64)) -j"$(head -n 1 luma.y4m | wc -c)" luma.y4m |
        awk -v at=$((7 + 64 * $3 + $2)) '{print $at}' | paste -sd ' '
}
bytes() { head -c "$1" /dev/zero | tr '\0' "$2"; } # COUNT OCTAL
still() { # FRAMES FILE: grey pictures
    echo "YUV4MPEG2 W64 H64 F24:1 C444" >"$2"
    for _ in $(seq "$1"); do
        echo FRAME
        bytes 12288 '\200'
    done >>"$2"
}
half() { # FILE: one picture, white on its left half
    {
        echo "YUV4MPEG2 W64 H64 F24:1 C444"
        echo FRAME
        for _ in $(seq 64); do
            bytes 32 '\353'
            bytes 32 '\020'
        done
        bytes 8192 '\200'
    } >"$1"
}
still 24 still.y4m
half half.y4m
run 0 "$SCOPE" run half.y4m -o mask.png
run 0 "$SCOPE" run "$SRC/examples/clip/clip.mp4" --size 64x64 --frames 6 -o clip.y4m

# skipping: frames 0, 1, 12 and 23 are made, 20 are repeats, and the summary says so
sd skip/ --similar-image-filter-enabled still.y4m --json
jq -es '.[-1] | .read == 24 and .written == 24 and .repeated == 20 and .skipped == 0' out >/dev/null ||
    fail "skips are not told: $(tail -n 1 out)"
sd skip.y4m --similar-image-filter-enabled still.y4m
says err "24 written" "20 repeated"
sd skip.y4m --similar-image-filter-enabled --similar-image-filter-max-skip 3 still.y4m --json
jq -es '.[-1].repeated == 17' out >/dev/null || fail "max-skip 3: $(tail -n 1 out)"
sd made.y4m still.y4m
never err "repeated"
cmp -s skip.y4m made.y4m || fail "repeats of a still picture differ from what would be made"

# loopback: two runs agree, and each frame differs from the run without
sd plain/ clip.y4m --strength 0.5
sd loop/ clip.y4m --strength 0.5 --image-loopback --loopback-zoom 1.1 --loopback-mix 0.7
sd again/ clip.y4m --strength 0.5 --image-loopback --loopback-zoom 1.1 --loopback-mix 0.7
diff -r loop again >/dev/null || fail "a run with loopback does not repeat"
cmp -s plain/000000.png loop/000000.png || fail "the first frame has something to loop back"
! cmp -s plain/000001.png loop/000001.png || fail "loopback does nothing"
sd text/ --input-mode text --frames 3 --image-loopback --strength 0.6
! cmp -s text/000000.png text/000002.png || fail "text with loopback stands still"
sd calm/ clip.y4m --strength 0.5 --latent-feedback 0.3
cmp -s plain/000000.png calm/000000.png || fail "the first frame has a latent before it"
! cmp -s plain/000001.png calm/000001.png || fail "latent feedback does nothing"

# a mask as a second input: the result on the left, the input on the right
sd masked/ clip.y4m --mask-compositing --mask-source input --input mask=mask.png
sd whole/ clip.y4m
[ "$(luma masked 10 40)" = "$(luma whole 10 40)" ] || fail "the result is not where the mask is 1"
run 0 "$SCOPE" run clip.y4m -o clip/
[ "$(luma masked 50 40)" = "$(luma clip 50 40)" ] || fail "the input is not where the mask is 0: $(luma masked 50 40) and $(luma clip 50 40)"
# the same by the alpha of the input, whose colour is kept where alpha is 0: white on the right
pixels() { for _ in $(seq "$1"); do printf "$2"; done; } # COUNT RGBA
{ pixels 32 '\200\200\200\377' && pixels 32 '\377\377\377\000'; } >row.rgba
for _ in $(seq 64); do cat row.rgba; done >alpha.rgba
run 0 gst-launch-1.0 -q filesrc location=alpha.rgba blocksize=16384 ! rawvideoparse width=64 height=64 \
    format=rgba ! pngenc ! filesink location=alpha.png
sd alpha/ alpha.png --mask-compositing --frames 1
sd opaque/ alpha.png --frames 1
[ "$(luma alpha 10 40)" = "$(luma opaque 10 40)" ] || fail "the result is not where alpha is 1"
[ "$(luma alpha 50 40)" = 235 ] || fail "the input is not where alpha is 0: $(luma alpha 50 40)"
[ "$(luma opaque 50 40)" != 235 ] || fail "the result is white anyway: the test shows nothing"
# a video as the mask: it follows the main input's time, and its last frame stays
sd masked2/ clip.y4m --mask-compositing --mask-source input --input mask=half.y4m
diff -r masked masked2 >/dev/null || fail "a video of one frame is another mask than the picture"
sd nomask/ clip.y4m --mask-compositing --mask-source input
says err "--input mask=FILE"
diff -r whole nomask >/dev/null || fail "no mask is not the whole picture"
complains 2 "no plugin here has an input of that name" "$SCOPE" run --plugin streamdiffusion \
    --model "$model" clip.y4m -o x.mp4 --input musk=mask.png
complains 2 "NAME=FILE" "$SCOPE" run --plugin invert clip.y4m -o x.mp4 --input mask.png
complains 1 "none.png" "$SCOPE" run --plugin invert clip.y4m -o x.mp4 --input mask=none.png

# bypass: off from frame 2 on, over 2 frames; the last frames are the input
echo '{"enabled": [["0f", true], ["2f", false, "hold"]]}' >off.json
sd bypass/ clip.y4m --bypass-fade 2 --keyframes off.json
for i in 0 1; do
    cmp -s bypass/00000$i.png whole/00000$i.png || fail "frame $i is not the result"
done
! cmp -s bypass/000002.png whole/000002.png || fail "nothing fades"
! cmp -s bypass/000002.png clip/000002.png || fail "it cuts"
for i in 3 4 5; do
    cmp -s bypass/00000$i.png clip/00000$i.png || fail "frame $i is not the input"
done
exit 0
