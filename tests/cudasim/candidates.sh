#!/bin/bash
# candidates.sh SIM - every candidate of the matrix product in turn, each on another part of the
# cases of convolution and linear maps, as a GPU of architecture CUDASIM_ARCH.
set -euo pipefail
sim=$1 arch=${CUDASIM_ARCH:?}
export BED_DEVICE=cuda CK_FORK=no
# A number that no candidate has changes nothing: one more than there are is tried, at most.
count=$(sed -n 's/.*CANDIDATES = \([0-9]*\).*/\1/p' "$(dirname "$0")/../../kernels/cuda/gemm.cu" | head -n 1)
for n in $(seq 0 $((${count:-8} - 1))); do
    export SCOPE_CUDA_TUNE=$n BED_SHARE=$n/$([ "$arch" = 80 ] && echo 2 || echo 6)
    for t in conv linear; do
        began=$(date +%s)
        CUDASIM_REPORT=$sim/report/$arch-$t-$n "$sim/test_$t" >"$sim/report/log-$arch-$t-$n" 2>&1 ||
            { cat "$sim/report/log-$arch-$t-$n" && echo "candidate $n failed in test_$t" && exit 1; }
        echo "candidate $n, test_$t: $(($(date +%s) - began)) s"
    done
done
