#!/bin/bash
# sass.sh TOOLS OBJECT... - the machine code of the kernels that ship, for every architecture: no
# kernel may spill registers or keep arrays in memory, and those of the matrix product and attention
# must use tensor cores. Fetches NVIDIA's cuobjdump (6 MB, from PyPI) into TOOLS where it is not
# installed; exits 77 where it cannot be had.
set -euo pipefail
tools=$1
shift
if ! command -v cuobjdump >/dev/null && ! [ -x "$tools/nvidia/cu13/bin/cuobjdump" ]; then
    mkdir -p "$tools"
    python3 -m pip download -q --no-deps --only-binary=:all: -d "$tools" \
        nvidia-cuda-cuobjdump==13.2.51 nvidia-cuda-nvdisasm==13.2.51 >"$tools/log" 2>&1 ||
        { echo "SKIP: cuobjdump cannot be fetched" && exit 77; }
    for w in "$tools"/*.whl; do python3 -m zipfile -e "$w" "$tools"; done
    chmod +x "$tools"/nvidia/cu13/bin/*
fi
PATH=$PATH:$tools/nvidia/cu13/bin

table=$(for o in "$@"; do
    cuobjdump --dump-resource-usage "$o" 2>/dev/null | awk '
        /^arch = / { arch = $3 }
        / Function / { name = $2; sub(/:$/, "", name) }
        / REG:/ { for (i = 1; i <= NF; i++) { split($i, f, ":"); v[f[1]] = f[2] }
                  print arch, name, v["REG"], v["STACK"], v["SHARED"], v["LOCAL"] }'
done | c++filt -p)
echo "$table" | awk '
    { kernels[$2] = 1; if ($(NF - 3) > most[$1]) most[$1] = $(NF - 3) }
    $(NF - 2) + $NF > 0 { print "sm: " $0 ": " $(NF - 2) " bytes of stack, " $NF " of local memory"; bad = 1 }
    END { for (a in most) printf "%s: up to %d registers\n", a, most[a]
          exit bad }' || bad=1

# HMMA: mma.sync; HGMMA: Hopper's own.
for o in "$@"; do
    case $o in *gemm*.cu.o | *attention*.cu.o) ;; *) continue ;; esac
    cuobjdump -sass "$o" | awk -v object="$(basename "$o")" '
        /code for sm_/ { arch = $3 }
        / Function : / { name = $3; seen[arch] += 0 }
        /HMMA|HGMMA/ { seen[arch]++ }
        END { for (a in seen) { printf "%s: %s: %d matrix instructions\n", a, object, seen[a]
                                if (!seen[a]) bad = 1 }
              exit bad }' || bad=1
done
exit ${bad:-0}
