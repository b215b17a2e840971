#!/bin/bash
# LoRAs from the command line: by path, by name, by a tag in the prompt, from keyframes; and bad ones.
. "$SRC/tests/e2e/lib.sh"
model=$SRC/tests/golden/networks/sd1 files=$SRC/tests/golden/lora
draw() { # OUTPUT OPTION...
    run 0 "$SCOPE" run --plugin streamdiffusion --model "$model" --input-mode text --size 64x64 --frames 1 \
        -o "$@"
}
same() { cmp -s "$1" "$2" || fail "$1 is not $2"; }

draw plain.png --prompt "a cat"
draw lora.png --prompt "a cat" --lora "$files/kohya.safetensors"
! cmp -s plain.png lora.png || fail "a LoRA changes nothing"
draw name.png --prompt "a cat" --lora kohya --lora-dir "$files"
same name.png lora.png
draw tag.png --prompt "a <lora:kohya:1>cat" --lora-dir "$files"
same tag.png lora.png
draw lcm.png --prompt "a cat" --lcm-lora-path "$files/kohya.safetensors"
same lcm.png lora.png
draw off.png --prompt "a cat" --lcm-lora-path "$files/kohya.safetensors" --use-lcm-lora=off
same off.png plain.png
draw zero.png --prompt "a cat" --lora kohya --lora-dir "$files" --loras.0.scale 0
same zero.png plain.png

# it comes and goes between frames
echo '{"loras": [["0f", []], ["1f", [{"path": "kohya", "scale": 1}]], ["2f", []]]}' >k.json
run 0 "$SCOPE" run --plugin streamdiffusion --model "$model" --input-mode text --size 64x64 --frames 3 \
    --prompt "a cat" --lora-dir "$files" --keyframes k.json -o k/
same k/000000.png plain.png
same k/000001.png lora.png
same k/000002.png plain.png

# at the start a bad one is an error; on the way it is told, and the frames go on
complains 1 'There is no LoRA "nope"' "$SCOPE" run --plugin streamdiffusion --model "$model" \
    --input-mode text --size 64x64 --frames 1 --lora nope --lora-dir "$files" -o no.png
echo '{"loras": [["0f", []], ["1f", [{"path": "nope", "scale": 1}]]]}' >k.json
run 0 "$SCOPE" run --plugin streamdiffusion --model "$model" --input-mode text --size 64x64 --frames 2 \
    --prompt "a cat" --lora-dir "$files" --keyframes k.json -o bad/
says err 'There is no LoRA "nope"'
same bad/000001.png plain.png
exit 0
