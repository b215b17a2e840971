#!/bin/bash
# run.sh FOLDER - what `make gpu-test` runs: the programs of FOLDER on this machine's GPU, within LIMIT
# seconds (450). FOLDER may be an archive of `make gpu-pack`. Ends with a table, and status 1 when a
# part has failed. PARTS names some parts alone.
limit=${LIMIT:-450}
cd "$(dirname "$0")/../.." || exit 1
. tests/gpu/lib.sh
wanted() { [ -z "${PARTS:-}" ] || [[ " $PARTS " == *" $1 "* ]]; }
show() { tail -n "${2:-25}" "$scratch/$1" | sed 's/^/         /'; }

nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader 2>/dev/null || echo "nvidia-smi is not here"
export BED_DEVICE=${BED_DEVICE:-cuda}

for t in elementwise embed noise norm image picture attention linear conv delta contract; do
    [ -x "$bin/test_$t" ] && wanted $t || continue
    part "$t" 60 env SCOPE_CUDA_TUNE=off "$bin/test_$t" || show "$t"
done
# Networks and whole frames, with whatever the tuning finds fastest.
wanted golden && { part golden 90 "$bin/test_golden" || show golden; }
wanted frames && { part frames 120 "$bin/test_frames" || show frames; show frames 8; }

# Each candidate of the matrix product, on another part of the cases.
for t in linear conv; do
    wanted candidates || break
    BED_CANDIDATES=${CANDIDATES:-0:1:200:10} part $t-candidates 60 "$bin/test_$t" || show $t-candidates
done

# The sanitizer is slow, and does not run everywhere.
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)
sanitized() { # TOOL TEST SHARE
    CK_FORK=no SCOPE_CUDA_TUNE=off BED_SHARE=$3 part "$1-$2" 60 "$sanitizer" --tool "$1" --error-exitcode 9 \
        "$bin/test_$2" || show "$1-$2" 12
}
if ! wanted sanitizer || [ -z "$sanitizer" ]; then
    say "no compute-sanitizer"
elif ! CK_FORK=no timeout 60 "$sanitizer" --error-exitcode 9 "$bin/test_noise" >"$scratch/sanitizer" 2>&1; then
    say "compute-sanitizer does not run here:" && show sanitizer 4
else
    for t in attention linear conv norm elementwise picture delta; do
        sanitized memcheck $t 0/2
    done
    for tool in racecheck initcheck; do
        for t in attention linear conv norm; do
            sanitized $tool $t 1/4
        done
    done
fi
verdicts
