#!/bin/bash
# fuzz.sh OUT TARGET...: build each target with clang's libFuzzer and run it over its corpus.
cd "$(dirname "$0")/../.." || exit 1
out=$1
shift
clang=$(command -v clang || find /usr/bin -name 'clang-[0-9]*' | sort -V | tail -n 1)
[ -n "$clang" ] || { echo "fuzzing needs clang and its runtime: apt-get install clang libclang-rt-dev" >&2; exit 1; }
mkdir -p "$out/deps" && touch "$out/deps.ok"
make --no-print-directory BUILD="$out" "$out/gen/base.json.h" || exit 1
# What the targets reach; nothing of it needs the kernels.
sd=plugin/streamdiffusion
sources="schema/*.c $sd/alloc.c $sd/bpe.c $sd/lora.c $sd/lora_names.c $sd/lora_tags.c $sd/safetensors.c $sd/tokenizer.c $sd/tokenizer_load.c $sd/tokenizer_text.c"
sources="$sources $sd/ldm.c $sd/fp8.c $sd/checkpoint.c $sd/config_shapes.c $sd/weights_index.c $sd/weights_files.c $sd/scheduler.c"
for target; do
    mkdir -p "$out/corpus/$target"
    # shellcheck disable=SC2086,SC2046
    "$clang" -std=c11 -D_GNU_SOURCE -O1 -g -fsanitize=fuzzer,address,undefined \
        -I"$out/gen" -I. -Iplugin -o "$out/fuzz_$target" "tests/fuzz/fuzz_$target.c" $sources \
        $(pkg-config --cflags --libs jansson libutf8proc) -lm || exit 1
    "$out/fuzz_$target" -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=1 \
        "$out/corpus/$target" "tests/fuzz/corpus/$target" || exit 1
done
