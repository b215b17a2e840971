#!/bin/bash
# bench.sh FOLDER - what `make gpu-bench` runs: gpu_bench of FOLDER, and peer.py where a Python has
# torch, diffusers and transformers, within LIMIT seconds (470). FOLDER may be an archive of `make
# gpu-pack`. Random weights of real shapes are made first. Ends with the whole frames as a table.
# PARTS names some parts alone: ops frames peer sd15 sdxl; MODES some of PyTorch's.
limit=${LIMIT:-470}
cd "$(dirname "$0")/../.." || exit 1
. tests/gpu/lib.sh
wanted() { [ -z "${PARTS:-}" ] || [[ " $PARTS " == *" $1 "* ]]; }
show() { sed 's/^/    /' "$scratch/$1"; }
nvidia-smi --query-gpu=name,compute_cap,driver_version,clocks.sm --format=csv,noheader 2>/dev/null || true

models=${MODELS:-$scratch/models}
mkdir -p "$models"
made() { # NAME: random weights of that shape, once
    [ -f "$models/$1/complete" ] && return 0
    part "weights-$1" 60 "$bin/random_model" "tests/golden/configs/$1" "$models/$1" --dtype f16 \
        --tokenizer tests/golden/tokenizer/bang && touch "$models/$1/complete"
}

# ---- ours ----
made sd-turbo || show weights-sd-turbo
if wanted frames; then
    part turbo-512 60 "$bin/gpu_bench" frames "$models/sd-turbo" 512 1 500; show turbo-512
    part turbo-512-own 60 env SCOPE_CUDA_LIBRARIES=off "$bin/gpu_bench" frames "$models/sd-turbo" 512 1 300; show turbo-512-own
    part tiny-256 30 "$bin/gpu_bench" frames examples/models/tiny 256 1 1000; show tiny-256
    mkdir -p "$scratch/dumped" && part frame 40 "$bin/gpu_bench" dump "$models/sd-turbo" 512 "$scratch/dumped"
fi
if wanted ops; then
    part ops 60 "$bin/gpu_bench" ops "$models/sd-turbo" 512 1 6; show ops
fi

# ---- PyTorch ----
peers() {
    local site=
    if ! "$python" -c 'import diffusers' 2>/dev/null && ls "$folder"/wheels/*.whl >/dev/null 2>&1; then
        "$python" -m pip install -q --no-index --no-deps --no-compile --target "$scratch/site" "$folder"/wheels/*.whl
        export PYTHONPATH=$scratch/site
    fi
    "$python" -c 'import torch, diffusers, transformers; assert torch.cuda.is_available()' 2>"$scratch/import" ||
        { say "no peer: $(tail -n 1 "$scratch/import")" && return; }
    export HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore TRANSFORMERS_VERBOSITY=error
    for mode in ${MODES:-eager graph reduce-overhead max-autotune}; do
        part "torch-$mode" "$(case $mode in eager | graph) echo 60 ;; *) echo "${COMPILE_S:-150}" ;; esac)" \
            "$python" tests/gpu/peer.py "$models/sd-turbo" 512 --mode $mode --seconds 4 \
            $([ $mode = eager ] && [ -f "$scratch/dumped/out.u8" ] && echo --compare "$scratch/dumped")
        grep -h 'torch\|dB\|Error' "$scratch/torch-$mode" | sed 's/^/    /'
    done
}
[ -z "$python" ] || ! wanted peer || peers

# ---- more of ours, where time is left ----
if wanted sd15 && [ "$(left)" -gt 40 ] && made sd15; then
    part sd15-512-batch4 50 "$bin/gpu_bench" frames "$models/sd15" 512 4 300; show sd15-512-batch4
fi
if wanted sdxl && [ "$(left)" -gt 60 ] && made sdxl; then
    part sdxl-512 60 "$bin/gpu_bench" frames "$models/sdxl" 512 1 200; show sdxl-512
fi

[ -z "${OUT:-}" ] || cp -r "$XDG_CACHE_HOME/scope" "$OUT/plans" 2>/dev/null
printf '\n'
for f in turbo-512 turbo-512-own tiny-256 sd15-512-batch4 sdxl-512; do
    [ -f "$scratch/$f" ] && grep -h '^frames' "$scratch/$f" | sed "s/^frames/$f:/"
done
cat "$scratch"/torch-* 2>/dev/null | grep -h '^torch\|dB'
verdicts
