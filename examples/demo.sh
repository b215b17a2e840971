#!/bin/sh
# demo.sh BUILD OUT [OPTION...]: the main job on what the repository carries: a clip and a small model.
set -e
here=$(cd "$(dirname "$0")" && pwd)
build=$1 out=$2
shift 2
mkdir -p "$out"
"$build/scope" run --plugin "$build/plugins/streamdiffusion.so" --model "$here/models/random" \
    --prompt "a watercolour of the sea" --strength 0.35 --size 384x384 --overwrite \
    --sheet "$out/sheet.png" "$here/clip/clip.mp4" -o "$out/demo.mp4" "$@"
echo "look at $out/demo.mp4 and $out/sheet.png"
