#!/bin/bash
# candidates.sh BIN COUNT [EVERY] - every candidate of the matrix product in turn, each on one of
# EVERY (2) parts of the cases of linear maps and convolution, by the test programs in BIN. A number
# that no candidate has leaves the choice as it is. Stops at the first that fails.
set -euo pipefail
bin=$1 count=$2 every=${3:-2}
log=$(mktemp) && trap 'rm -f "$log"' EXIT
report=${CUDASIM_REPORT:-}
for n in $(seq 0 $((count - 1))); do
    for t in linear conv; do
        began=$SECONDS
        [ -z "$report" ] || export CUDASIM_REPORT=$report-$t-$n
        SCOPE_CUDA_TUNE=$n BED_SHARE=$n/$every "$bin/test_$t" >"$log" 2>&1 ||
            { tail -n 20 "$log" && echo "test_$t fails with candidate $n" && exit 1; }
        echo "candidate $n, test_$t: $((SECONDS - began)) s"
    done
done
