#!/bin/bash
# fuzz.sh OUT TARGET...: build each target with clang's libFuzzer and run it over its corpus.
cd "$(dirname "$0")/../.." || exit 1
out=$1
shift
clang=$(command -v clang || find /usr/bin -name 'clang-[0-9]*' | sort -V | tail -n 1)
[ -n "$clang" ] || { echo "fuzzing needs clang and its runtime: apt-get install clang libclang-rt-dev" >&2; exit 1; }
mkdir -p "$out/deps" && touch "$out/deps.ok"
make --no-print-directory BUILD="$out" "$out/gen/base.json.h" "$out/gen/styles.json.h" || exit 1
# An archive, so that a target links what it reaches and may put a stand-in for the rest.
mkdir -p "$out/obj"
flags="-std=c11 -D_GNU_SOURCE -O1 -g -fsanitize=fuzzer-no-link,address,undefined -I$out/gen -I. -Iplugin"
flags="$flags $(pkg-config --cflags jansson libutf8proc)"
# shellcheck disable=SC2016
printf '%s\n' schema/*.c plugin/streamdiffusion/*.c | grep -v plugin.c |
    xargs -P "$(nproc)" -I{} sh -c '"$0" $1 -c -o "$2/obj/$(echo "$3" | tr / -).o" "$3"' \
        "$clang" "$flags" "$out" {} || exit 1
rm -f "$out/libreached.a" && ar rcs "$out/libreached.a" "$out"/obj/*.o
for target; do
    mkdir -p "$out/corpus/$target"
    # shellcheck disable=SC2086,SC2046
    "$clang" $flags -fsanitize=fuzzer -o "$out/fuzz_$target" "tests/fuzz/fuzz_$target.c" "$out/libreached.a" \
        $(pkg-config --libs jansson libutf8proc) -lm || exit 1
    "$out/fuzz_$target" -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=1 \
        "$out/corpus/$target" "tests/fuzz/corpus/$target" || exit 1
done
