#!/bin/bash
# bench.sh [tiny] - what `make bench` and `make bench-tiny` run.
#
# Our frame beside PyTorch, ONNX Runtime and bare oneDNN: on one SD-Turbo-shaped checkpoint of random
# fp16 weights, and on the model that ships (examples/models/tiny); "tiny" measures ours on the latter
# alone. Beside them, ours alone: a network of SDXL's structure at a fifth of its width, what steps,
# guidance and changes of parameters cost (stream_bench.c), and a LoRA (lora_bench.c). Engines take
# turns, a process each, ROUNDS times; figures are medians over the rounds. Ends with one line of
# figures and status 1 when a bar is missed. Peers are run when a Python has them
# (tests/oracle/requirements.txt).
#
# BUILD (absolute)  ORACLE_PYTHON  SIZES ("256 512")  ROUNDS (3)  FRAMES (5)  XDG_CACHE_HOME
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${BUILD:-$root/build}
sizes=${SIZES:-256 512}
[ "${1:-}" != tiny ] || sizes=
rounds=${ROUNDS:-3}
frames=${FRAMES:-5}
threads=$(nproc)
caches=${XDG_CACHE_HOME:-$HOME/.cache}
cache=$caches/scope-bench
model=$cache/sd-turbo-f16
tiny=$root/examples/models/tiny tiny_size=256 tiny_frames=$((12 * frames))
scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT
table=$scratch/table

# ---- what is measured with ------------------------------------------------------------------
if [ -n "$sizes" ] && ! [ -f "$model/complete" ]; then
    mkdir -p "$cache"
    "$build/tests/tools/random_model" "$root/tests/golden/configs/sd-turbo" "$model" --dtype f16 \
        --tokenizer "$root/tests/golden/tokenizer/bang"
    touch "$model/complete"
fi

# SDXL as it is takes 10 GB; every layer of its UNet, narrow, says how its depth and its parts do.
sdxl=$cache/sdxl-narrow sdxl_size=256
narrow() { jq "$2" "$root/tests/golden/configs/sdxl/$1/config.json" >"$scratch/sdxl/$1/config.json"; }
if [ -n "$sizes" ] && ! [ -f "$sdxl/complete" ]; then
    mkdir -p "$cache"
    cp -r "$root/tests/golden/configs/sdxl" "$scratch/sdxl"
    narrow unet '.block_out_channels = [64, 128, 256] | .attention_head_dim = [1, 2, 4] |
        .cross_attention_dim = 320 | .projection_class_embeddings_input_dim = 6 * 256 + 192'
    narrow text_encoder '.hidden_size = 128 | .intermediate_size = 512 | .num_attention_heads = 2'
    narrow text_encoder_2 '.hidden_size = 192 | .intermediate_size = 768 | .num_attention_heads = 3 |
        .projection_dim = 192'
    narrow vae '.block_out_channels = [32, 64, 64, 64]'
    "$build/tests/tools/random_model" "$scratch/sdxl" "$sdxl" --dtype f16 \
        --tokenizer "$root/tests/golden/tokenizer/bang"
    touch "$sdxl/complete"
fi

# A case is a model, a size and a number of frames, under its name in the table.
case_of() { # CASE COMMAND ARGUMENT...: the command, with CASE MODEL SIZE FRAMES after its arguments
    local name=$1
    shift
    if [ "$name" = tiny ]; then
        "$@" tiny "$tiny" $tiny_size $tiny_frames
    elif [ "$name" = sdxl ]; then
        "$@" sdxl "$sdxl" $sdxl_size "$frames"
    else
        "$@" "$name" "$model" "$name" "$frames"
    fi
}

peer() { # ENGINE CASE MODEL SIZE FRAMES; one that fails leaves its cells empty
    "$python" "$here/peers.py" "$1" "$3" "$cache/exported-$2" "$4" "$5" "$threads" 2>"$scratch/log" |
        sed "s/^/$1 $2 /" || { echo "peers.py $1 failed on $2:" && tail -n 3 "$scratch/log"; } >&2
}

python= peers=
for p in "${ORACLE_PYTHON:-}" "$caches/scope-oracle/venv/bin/python" python3; do
    if [ -n "$p" ] && [ -n "$sizes" ] && "$p" -c 'import torch, diffusers, transformers' 2>/dev/null; then
        python=$p
        break
    fi
done
if [ -n "$python" ]; then
    export HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore TRANSFORMERS_VERBOSITY=error
    peers=torch
    if "$python" -c 'import onnxruntime, onnxscript' 2>/dev/null; then
        for c in $sizes tiny; do
            case_of "$c" peer export
        done
        peers="torch onnx"
    fi
elif [ -n "$sizes" ]; then
    echo "no Python with torch, diffusers and transformers: the peers are not measured"
fi

# ---- measuring: each line of the table is "engine case what figure" -------------------------------
# The fields of a JSON line of `scope bench`, as lines of the table.
lines_of() { # ENGINE CASE
    tr '{,' '\n\n' | awk -v engine="$1" -v name="$2" -F'[:}"]+' '
        /"stage":/ { stage = $3 }
        /"ms":/ && stage != "frame" { print engine, name, stage, $3 }
        /"init_ms":/ { print engine, name, "load", $3 }
        /"median_ms":/ { print engine, name, "frame", $3 }
        /"host_ms":/ { print engine, name, "host", $3 }
        /"peak_mib":/ { print engine, name, "peak", $3 }'
}

backed() { "$build/tests/bench/touch" "$1" >&2; } # see there

ours() { # ENGINE MEMORY CASE MODEL SIZE FRAMES
    "$build/scope" bench --json --plugin "$build/plugins/streamdiffusion.so" --size "$5x$5" \
        --frames "$6" --warmup 2 --model-id-or-path "$4" --memory "$2" --strength 0.6 \
        --prompts "a photo of a cat" | lines_of "$1" "$3"
}

# From the start of the program to the end of one that has written the restyled first frame of a video.
first_frame() { # CASE MODEL SIZE FRAMES
    local began=${EPOCHREALTIME/[.,]/}
    "$build/scope" run --quiet --overwrite --plugin "$build/plugins/streamdiffusion.so" --model "$2" \
        --size "$3x$3" --strength 0.6 --prompt "a photo of a cat" --frames 1 \
        "$root/examples/clip/clip.mp4" -o "$scratch/first.png"
    echo "ours $1 first $(((${EPOCHREALTIME/[.,]/} - began) / 1000))"
}

measure() { # CASE MIB: every engine that this case has, after so much memory was backed by the host
    backed "$2"
    case_of "$1" ours ours normal
    for p in $peers; do
        backed "$2"
        case_of "$1" peer "$p"
    done
    case_of "$1" ours low low
}

# Lines of the table that say what steps, guidance, changes and a LoRA cost.
measure_changes() {
    case_of sdxl ours ours normal
    case_of sdxl ours low low
    "$build/tests/bench/stream_bench" "$tiny" $tiny_size $((4 * frames)) | sed 's/^/stream /'
    backed 1536
    "$build/tests/bench/lora_bench" | awk '$1 == "come" || $1 == "go" { print "lora", "sd15", $1, $2 }
        $1 == "weigh" { print "lora", "sd15", "again", $3 }'
}

# A warm page cache for every loader.
find ${sizes:+"$model" "$sdxl"} "$tiny" -name '*.safetensors' -exec cat {} + >/dev/null
ticks() { # of the whole machine's work, and of this script's children
    awk '/^cpu / { busy = $2 + $3 + $4 + $7 + $8 + $9 } FNR == NR { next } { print busy, $16 + $17 }' /proc/stat /proc/$$/stat
}
read -r busy own <<<"$(ticks)"
began=$(date +%s)
for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    for s in $sizes; do
        measure "$s" 7168
        "$build/tests/bench/dnnl_floor" $((s / 8)) |
            awk -v s="$s" '$1 == "floor" { print "floor", s, "unet", 1000 * $3 }'
    done
    measure tiny 1024
    case_of tiny first_frame
    [ -z "$sizes" ] || measure_changes
    [ -z "$sizes" ] || "$build/scope" bench --json --plugin "$build/plugins/passthrough.so" \
        --size 512x512 --frames 200 | lines_of passthrough 512
done >>"$table"

# ---- medians, ratios, bars ------------------------------------------------------------------------
read -r busy_now own_now <<<"$(ticks)"
seconds=$(($(date +%s) - began + 1))
foreign=$(((busy_now - busy - own_now + own) * 100 / (seconds * threads * $(getconf CLK_TCK))))
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
echo "$(hostname), ${cpu:-$(uname -m)}, $threads threads, fp32; fp16 files; $rounds rounds, medians"
echo "other processes used $foreign % of the machine meanwhile (above 2 %, figures are too high)"
sort -k1,3 -k4,4n "$table" | awk -v sizes="$sizes" -v tiny_size=$tiny_size \
    -v sdxl_size=$sdxl_size -f "$here/bench.awk"
