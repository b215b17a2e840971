#!/bin/bash
# coverage.sh REPORTS ARCH... - what the simulator counted, over all test programs of each
# architecture: every kernel must have run, and the kernels that take a frame's time must touch
# memory in order.
#
# A report has a line for each kernel that the program has: name, launches, instructions, matrix
# instructions, passes of shared memory and as few as there could be, sectors of global memory and
# as few as there could be.
set -euo pipefail
reports=$1
shift
hot='gemm|attention|norm'
status=0
for arch in "$@"; do
    cat "$reports/$arch"-* | awk -v arch="$arch" -v hot="$hot" '
        NF >= 8 && $NF ~ /^[0-9]+$/ {
            name = $0
            sub(/([ \t]+[0-9]+){7}$/, "", name)
            known[name] = 1
            for (i = 0; i < 7; i++) sum[name, i] += $(NF - 6 + i)
        }
        function ratio(a, b) { return b ? a / b : 1 }
        END {
            for (name in known) {
                kernels++
                if (!sum[name, 0]) { print "sm_" arch ": " name " has never run"; bad = 1; continue }
                passes = ratio(sum[name, 3], sum[name, 4])
                sectors = ratio(sum[name, 5], sum[name, 6])
                if (name !~ hot) continue
                if (passes > 1.1) { printf "sm_%s: %s: %.2f passes of shared memory for each that is needed, bar 1.1\n", arch, name, passes; bad = 1 }
                if (sectors > 1.3) { printf "sm_%s: %s: %.2f sectors of memory for each that is needed, bar 1.3\n", arch, name, sectors; bad = 1 }
            }
            if (!kernels) { print "sm_" arch ": there are no reports"; bad = 1 }
            else if (!bad) print "sm_" arch ": all " kernels " kernels have run"
            exit bad
        }' || status=1
done
exit $status
