#!/bin/bash
# stream.sh - the time of a frame with 1, 2 and 4 steps: in a stream batch, one after the other, and with
# guidance; on the model that ships. Cases take turns, ROUNDS times (3), FRAMES (20) each; figures are the
# least of the rounds' medians, in ms, because what disturbs a measurement only ever adds to it. Ends with
# status 1 when the UNet takes more than 0.9 n single ones in the batch of n, or self guidance costs more
# than 2 %.
#
# BUILD (absolute)  SIZE (256)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
scope=${BUILD:-$root/build}/scope size=${SIZE:-256} rounds=${ROUNDS:-3} frames=${FRAMES:-20}

declare -A unet frame
least() { awk -v a="${1:-}" -v b="$2" 'BEGIN { print a == "" || b < a ? b : a }'; }
measure() { # NAME FLAG...
    local name=$1 said
    shift
    said=$("$scope" bench --plugin streamdiffusion --model "$root/examples/models/tiny" --json \
        --size "${size}x$size" --frames "$frames" --prompts oil --strength 0.7 "$@")
    unet[$name]=$(least "${unet[$name]:-}" "$(jq '.stages[] | select(.stage == "unet").ms' <<<"$said")")
    frame[$name]=$(least "${frame[$name]:-}" "$(jq .median_ms <<<"$said")")
}

for _ in $(seq "$rounds"); do
    for n in 1 2 4; do
        measure "batch $n" --num_inference_steps $n
        measure "apart $n" --num_inference_steps $n --use_denoising_batch false
    done
    measure none --num_inference_steps 2 --guidance_scale 2 --cfg_type none
    for kind in self initialize full; do
        measure $kind --num_inference_steps 2 --guidance_scale 2 --cfg_type $kind
    done
done

missed=0
row() { # NAME AGAINST BAR ("" for none)
    local share=$(awk -v a="${unet[$1]}" -v b="$2" 'BEGIN { printf "%.3f", a / b }')
    printf '%-12s %9.2f ms a frame  %9.2f ms UNet  %s times%s\n' "$1" "${frame[$1]}" "${unet[$1]}" \
        "$share" "${3:+, bar $3}"
    [ -z "${3:-}" ] || awk -v s="$share" -v b="$3" 'BEGIN { exit !(s > b) }' && missed=1 || true
}
for n in 1 2 4; do
    row "apart $n" "${unet[batch 1]}" ""
    row "batch $n" "${unet[batch 1]}" "$([ $n = 1 ] || awk -v n=$n 'BEGIN { print 0.9 * n }')"
done
for kind in none initialize full; do row $kind "${unet[none]}" ""; done
row self "${unet[none]}" 1.02
exit $missed
