#!/bin/bash
# bench.sh - what `make bench` runs: our frame beside PyTorch, ONNX Runtime and bare oneDNN.
#
# One SD-Turbo-shaped checkpoint of random fp16 weights, the same for all. Engines take turns, a
# process each, ROUNDS times; figures are medians over the rounds. Ends with one line of figures and
# status 1 when a bar is missed. Peers are run when a Python has them (tests/oracle/requirements.txt).
#
# BUILD (absolute)  ORACLE_PYTHON  SIZES ("256 512")  ROUNDS (3)  FRAMES (5)  XDG_CACHE_HOME
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${BUILD:-$root/build}
sizes=${SIZES:-256 512}
rounds=${ROUNDS:-3}
frames=${FRAMES:-5}
threads=$(nproc)
caches=${XDG_CACHE_HOME:-$HOME/.cache}
cache=$caches/scope-bench
model=$cache/sd-turbo-f16
table=$(mktemp) && trap 'rm -f "$table" "$table.log"' EXIT

# ---- what is measured with ------------------------------------------------------------------
if ! [ -f "$model/complete" ]; then
    mkdir -p "$cache"
    "$build/tests/tools/random_model" "$root/tests/golden/configs/sd-turbo" "$model" --dtype f16 \
        --tokenizer "$root/tests/golden/tokenizer/bang"
    touch "$model/complete"
fi

peer() { # ENGINE SIZE; one that fails leaves its cells empty
    "$python" "$here/peers.py" "$1" "$model" "$cache" "$2" "$frames" "$threads" 2>"$table.log" ||
        { echo "peers.py $1 failed at $2:" && tail -n 3 "$table.log"; } >&2
}

python=
for p in "${ORACLE_PYTHON:-}" "$caches/scope-oracle/venv/bin/python" python3; do
    if [ -n "$p" ] && "$p" -c 'import torch, diffusers, transformers' 2>/dev/null; then
        python=$p
        break
    fi
done
peers=
if [ -n "$python" ]; then
    export HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore TRANSFORMERS_VERBOSITY=error
    peers=torch
    if "$python" -c 'import onnxruntime, onnxscript' 2>/dev/null; then
        for s in $sizes; do
            peer export "$s"
        done
        peers="torch onnx"
    fi
else
    echo "no Python with torch, diffusers and transformers: the peers are not measured"
fi

# ---- measuring: each line of the table is "engine size what figure" -------------------------------
# The fields of a JSON line of `scope bench`, as lines of the table.
lines_of() { # ENGINE SIZE
    tr '{,' '\n\n' | awk -v engine="$1" -v size="$2" -F'[:}"]+' '
        /"stage":/ { stage = $3 }
        /"ms":/ && stage != "frame" { print engine, size, stage, $3 }
        /"init_ms":/ { print engine, size, "load", $3 }
        /"median_ms":/ { print engine, size, "frame", $3 }
        /"host_ms":/ { print engine, size, "host", $3 }
        /"peak_mib":/ { print engine, size, "peak", $3 }'
}

backed() { "$build/tests/bench/touch" 7168 >&2; } # see there

ours() { # ENGINE SIZE MEMORY
    backed
    "$build/scope" bench --json --plugin "$build/plugins/streamdiffusion.so" --size "$2x$2" \
        --frames "$frames" --warmup 2 --model-id-or-path "$model" --memory "$3" --strength 0.6 \
        --prompts "a photo of a cat" | lines_of "$1" "$2"
}

find "$model" -name '*.safetensors' -exec cat {} + >/dev/null # a warm page cache for every loader
ticks() { # of the whole machine's work, and of this script's children
    awk '/^cpu / { busy = $2 + $3 + $4 + $7 + $8 + $9 } FNR == NR { next } { print busy, $16 + $17 }' /proc/stat /proc/$$/stat
}
read -r busy own <<<"$(ticks)"
began=$(date +%s)
for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    for s in $sizes; do
        ours ours "$s" normal
        for p in $peers; do
            backed
            peer "$p" "$s"
        done
        ours low "$s" low
        "$build/tests/bench/dnnl_floor" $((s / 8)) | awk -v s="$s" '$1 == "floor" { print "floor", s, "unet", 1000 * $3 }'
    done
    "$build/scope" bench --json --plugin "$build/plugins/passthrough.so" --size 512x512 --frames 200 |
        lines_of passthrough 512
done >>"$table"

# ---- medians, ratios, bars ------------------------------------------------------------------------
read -r busy_now own_now <<<"$(ticks)"
seconds=$(($(date +%s) - began + 1))
foreign=$(((busy_now - busy - own_now + own) * 100 / (seconds * threads * $(getconf CLK_TCK))))
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
echo "$(hostname), ${cpu:-$(uname -m)}, $threads threads, fp32; SD-Turbo shapes, fp16 file; $rounds rounds, medians"
echo "other processes used $foreign % of the machine meanwhile (above 2 %, figures are too high)"
sort -k1,3 -k4,4n "$table" | awk -v sizes="$sizes" -f "$here/bench.awk"
