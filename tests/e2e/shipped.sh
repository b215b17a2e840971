#!/bin/bash
# The model that ships: small, with a card, complete, portable, and loaded as it is.
. "$SRC/tests/e2e/lib.sh"
model=$SRC/examples/models/tiny
bytes=$(find "$model" -type f -printf '%s\n' | awk '{sum += $1} END {print sum}')
[ "$bytes" -le 20000000 ] || fail "$model has $bytes bytes; 20 MB is the limit"

# The card says under which licence, made of what, how, how good, and what it cannot do.
for text in "license: " "Data" "Training" "Evaluation" "cannot"; do
    grep -qi -- "$text" "$model/README.md" || fail "the model card does not say '$text'"
done

for part in unet vae text_encoder; do
    ls "$model/$part"/*.safetensors >out || fail "no weights in $part"
    head -c 4000 "$model/$part"/*.safetensors | grep -aq '"F16"' || fail "the weights of $part are not fp16"
done
for config in "$model"/*.json "$model"/*/*.json; do
    jq -e 'has("_name_or_path") | not' "$config" >/dev/null || fail "$config names a folder of another machine"
done
jq -e '._class_name == "AutoencoderTiny" and (.num_encoder_blocks | index(0) != null)' "$model/vae/config.json" ||
    fail "the autoencoder has blocks everywhere: stages without any are not tested"

run 0 "$SCOPE" run --plugin streamdiffusion --model "$model" --prompt neon --size 256x256 --frames 1 \
    "$SRC/examples/clip/clip.mp4" -o neon.png
run 0 "$SCOPE" run --plugin streamdiffusion --model "$model" --prompt neon --size 64x64 --input-mode text \
    --num-inference-steps 4 --frames 1 -o text.png
[ -s neon.png ] && [ -s text.png ] || fail "no pictures"
exit 0
