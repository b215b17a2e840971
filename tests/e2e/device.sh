#!/bin/bash
# --device: a GPU that is not there is named, with the remedy, and nothing is written; auto goes on.
. "$SRC/tests/e2e/lib.sh"
clip=$SRC/examples/clip/clip.mp4
on() { "$SCOPE" run --plugin streamdiffusion --model "$SRC/examples/models/tiny" --size 64x64 --frames 2 "$@" "$clip"; }

for device in cuda cuda:7; do
    complains 1 'use device "cpu"' on --device $device -o out.mp4
    [ ! -e out.mp4 ] || fail "$device left a file behind"
done
complains 2 'choose one of "auto", "cpu", "cuda"' on --device abacus -o out.mp4
run 0 on --device auto -o auto/
never err "NVIDIA"
run 0 on --device cpu -o cpu/
diff -r auto cpu || fail "auto is not the CPU here"
