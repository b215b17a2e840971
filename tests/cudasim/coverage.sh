#!/bin/bash
# coverage.sh REPORTS ARCH... - every kernel must have run on every architecture, in one of the test
# programs at least. A report of the simulator has a line for each kernel that the program holds: its
# name, the architecture, launches, and counters. Left out: what helps a library of NVIDIA's, bfloat16
# on sm_75, which has none, what is sm_90a's alone elsewhere, and attention that it takes the place of
# there.
set -euo pipefail
reports=$1
shift
for arch in "$@"; do
    find "$reports" -name "$arch-*" ! -name '*-cudasim' -exec cat {} + | awk -F'\t' -v arch="$arch" '
        /bias_row/ || (arch < 80 && /bfloat16/) || (arch < 90 && /hopper/) || (arch == 90 && /^attend</) { next }
        NF >= 3 { launches[$1] += $3 }
        END {
            for (name in launches) {
                kernels++
                if (!launches[name]) { print "sm_" arch ": " name " has never run"; bad++ }
            }
            if (!kernels) { print "sm_" arch ": there are no reports"; bad++ }
            if (!bad) print "sm_" arch ": all " kernels " kernels have run"
            exit bad > 0
        }' || status=1
done
exit ${status:-0}
