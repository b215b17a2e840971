#!/bin/bash
# The stream batch through `scope run`: late inside, but a file has its frames in their places; and the
# time of several steps together, beside one after the other.
. "$SRC/tests/e2e/lib.sh"
model=$SRC/examples/models/tiny
[ -s "$model/unet/diffusion_pytorch_model.safetensors" ] || fail "there is no model in $model"
run 0 "$SCOPE" run --plugin color --frames 9 --size 64x64 --fps 10 --waves 2 -o film.y4m
stylize() { run 0 "$SCOPE" run --plugin streamdiffusion --model "$model" --width 64 --height 64 --prompts oil -y "$@"; }

# frames Y4M: how many there are, of 64x64 in 4:4:4
frames() { echo $((($(wc -c <"$1") - $(head -n 1 "$1" | wc -c)) / (6 + 3 * 64 * 64))); }
# close A B: the same number of bytes, none of which differs by more than 2
close() {
    [ "$(wc -c <"$1")" = "$(wc -c <"$2")" ] || fail "$1 and $2 differ in length"
    cmp -l "$1" "$2" | awk '{ a = $2; b = $3; x = int(a / 100) * 64 + int(a % 100 / 10) * 8 + a % 10
        y = int(b / 100) * 64 + int(b % 100 / 10) * 8 + b % 10; d = x > y ? x - y : y - x
        if (d > most) most = d } END { exit most > 2 }' || fail "$1 and $2 show other pictures"
}

stylize film.y4m --num_inference_steps 3 --strength 0.7 --use_denoising_batch false -o alone.y4m
[ "$(frames alone.y4m)" = 9 ] || fail "9 frames made $(frames alone.y4m)"
stylize film.y4m --num_inference_steps 3 --strength 0.7 -o batch.y4m
close alone.y4m batch.y4m
stylize film.y4m --num_inference_steps 3 --strength 0.7 --frame_buffer_size 2 -o two.y4m # 9 is odd
close alone.y4m two.y4m
stylize film.y4m --num_inference_steps 8 --strength 0.7 --frames 2 -o short.y4m # fewer than are late
[ "$(frames short.y4m)" = 2 ] || fail "2 frames made $(frames short.y4m)"
stylize --input_mode text --frames 4 --num_inference_steps 2 -o text/
[ "$(ls text | wc -l)" = 4 ] || fail "4 frames of text made $(ls text | wc -l)"

# the number of steps changes on the way: still one frame for each, and the ends are right
echo '{"num_inference_steps": [[0, 1], ["3f", 3, "hold"], ["6f", 2, "hold"]]}' >keys.json
stylize film.y4m --strength 0.7 --keyframes keys.json -o keys.y4m
[ "$(frames keys.y4m)" = 9 ] || fail "9 frames made $(frames keys.y4m) when steps change"

# a refused value costs its frame, is told, and the stream goes on
echo '{"t_index_list": [["0f", [20]], ["4f", [30, 10], "hold"], ["6f", [20], "hold"]]}' >bad.json
stylize film.y4m --keyframes bad.json -o bad.y4m
says err "t_index_list entry 1 is 10"
[ "$(frames bad.y4m)" = 8 ] || fail "one refused value left $(frames bad.y4m) of 9 frames"
