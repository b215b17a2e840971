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
packages="jansson libutf8proc libcurl gstreamer-1.0 gstreamer-app-1.0 gstreamer-video-1.0 gstreamer-pbutils-1.0
    gstreamer-sdp-1.0 gstreamer-rtp-1.0 gio-unix-2.0 libmicrohttpd gnutls liblo"
# shellcheck disable=SC2086
flags="$flags $(pkg-config --cflags $packages)"
# shellcheck disable=SC2016
printf '%s\n' schema/*.c plugin/streamdiffusion/*.c host/*.c host/*/*.c | grep -vE '/(plugin|main).c$' |
    xargs -P "$(nproc)" -I{} sh -c '"$0" $1 -c -o "$2/obj/$(echo "$3" | tr / -).o" "$3"' \
        "$clang" "$flags" "$out" {} || exit 1
rm -f "$out/libreached.a" && ar rcs "$out/libreached.a" "$out"/obj/*.o
for target; do
    mkdir -p "$out/corpus/$target"
    # shellcheck disable=SC2086,SC2046
    "$clang" $flags -fsanitize=fuzzer -o "$out/fuzz_$target" "tests/fuzz/fuzz_$target.c" "$out/libreached.a" \
        $(pkg-config --libs $packages) -lwslay -ldl -lm || exit 1
    "$out/fuzz_$target" -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=1 \
        "$out/corpus/$target" "tests/fuzz/corpus/$target" || exit 1
done
