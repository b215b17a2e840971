#!/bin/bash
# demo.sh BUILD OUT [FRAMES]: the main job, on what the repository carries: a clip and a small model.
#
# OUT/demo.mp4 shows the clip (FRAMES of it; all) beside the same under three prompts, OUT/sheet.png
# some moments of it under every look that the model knows.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$1 out=$2 frames=${3:-}
side=256 moments=4
prompts=("oil painting" "neon" "pencil drawing")
looks=("pencil drawing" "ink drawing" "oil painting" "watercolour" "neon" "pixel art" "thermal" "blueprint"
    "stained glass" "embers" "ice" "comic" "gold" "halftone" "vaporwave" "chalk drawing")
scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT
mkdir -p "$out"

scope() { "$build/scope" run --quiet --overwrite --size ${side}x$side "$@"; }
restyle() { scope --plugin "$build/plugins/streamdiffusion.so" --model "$here/models/tiny" --strength 0.6 "$@"; }

# A GStreamer pipeline, in argv form, that puts pictures side by side. cell X Y LABEL SOURCE...: one more
# picture, of whatever SOURCE decodes to, at (X, Y), with LABEL, unless it is empty, in its corner.
cells=() places=()
cell() {
    local pad=sink_$((${#places[@]} / 2)) label=()
    [ -z "$3" ] || label=(textoverlay "text=$3" "font-desc=Sans Bold 11" auto-resize=false
        shaded-background=true halignment=left valignment=bottom xpad=6 ypad=6 !)
    places+=("$pad::xpos=$1" "$pad::ypos=$2")
    cells+=("${@:4}" ! videoconvert ! "${label[@]}" "page.$pad")
}
compose() { # WIDTH HEIGHT ELEMENT...: all cells on one page, into the elements
    gst-launch-1.0 -q compositor name=page background=black "${places[@]}" \
        ! "video/x-raw,format=RGBA,width=$1,height=$2" ! videoconvert ! "${@:3}" "${cells[@]}" >/dev/null
    cells=() places=()
}

clip=("$here/clip/clip.mp4" ${frames:+--frames "$frames"})
scope "${clip[@]}" -o "$scratch/0.y4m"
cell 0 0 source filesrc location="$scratch/0.y4m" ! decodebin
for i in 1 2 3; do
    echo "${prompts[i - 1]}"
    restyle --prompt "${prompts[i - 1]}" "${clip[@]}" -o "$scratch/$i.y4m"
    cell $((i * side)) 0 "${prompts[i - 1]}" filesrc location="$scratch/$i.y4m" ! decodebin
done
compose $((4 * side)) $side video/x-raw,format=I420 ! x264enc ! h264parse ! mp4mux faststart=true ! filesink \
    location="$out/demo.mp4"

# The sheet in one run: the moments again for every look, the prompt moved by keyframes.
echo "${#looks[@]} looks"
scope "$scratch/0.y4m" -o "$scratch/source/"
count=$(find "$scratch/source" -name '*.png' | wc -l)
mkdir "$scratch/moments"
keys=
for i in "${!looks[@]}"; do
    keys+="${keys:+, }[\"$((i * moments))f\", \"${looks[i]}\", \"hold\"]"
    for m in $(seq 0 $((moments - 1))); do
        ln -s "$scratch/source/$(printf %06d $(((2 * m + 1) * count / (2 * moments)))).png" \
            "$scratch/moments/$(printf %06d $((i * moments + m))).png"
    done
done
echo "{\"prompts\": [$keys]}" >"$scratch/keys.json"
restyle --keyframes "$scratch/keys.json" "$scratch/moments/" -o "$scratch/restyled/"

# Two banks of rows, each with the source above its looks; a row is a look, its columns the moments.
gap=6 rows=$(((${#looks[@]} + 1) / 2))
picture() { # ROW COLUMN LABEL FILE; a column after the moments is in the second bank
    cell $((gap + $2 * (side + gap) + ($2 >= moments ? 2 * gap : 0))) $((gap + $1 * (side + gap))) "$3" \
        filesrc location="$4" ! pngdec ! imagefreeze num-buffers=1 ! video/x-raw,framerate=1/1
}
for m in $(seq 0 $((moments - 1))); do
    source=$(readlink "$scratch/moments/$(printf %06d "$m").png")
    for bank in 0 1; do
        picture 0 $((bank * moments + m)) "$([ "$m" != 0 ] || echo source)" "$source"
    done
    for i in "${!looks[@]}"; do
        picture $((1 + i % rows)) $((i / rows * moments + m)) "$([ "$m" != 0 ] || echo "${looks[i]}")" \
            "$scratch/restyled/$(printf %06d $((i * moments + m))).png"
    done
done
compose $((2 * moments * (side + gap) + 3 * gap)) $(((1 + rows) * (side + gap) + gap)) \
    pngenc snapshot=true ! filesink location="$out/sheet.png"
echo "look at $out/demo.mp4 and $out/sheet.png"
