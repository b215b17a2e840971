#!/bin/bash
# sass.sh TOOLS OBJECT... - the machine code of the kernels that ship, for every architecture. The
# matrix product and attention keep all they have in registers on sm_80 to sm_90a, and use tensor
# cores; others may spill a little where they wait for memory anyway. Fetches NVIDIA's cuobjdump
# (6 MB, from PyPI) into TOOLS where it is not installed; exits 77 where it cannot be had.
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
echo "$table" | awk -v most=96 '
    { stack = $(NF - 2) + $NF; if ($(NF - 3) > registers[$1]) registers[$1] = $(NF - 3) }
    $2 ~ /^(product|attend|few)/ && $1 ~ /sm_(80|86|89|90a)/ && stack > 0 || stack > most {
        print $0 ": " stack " bytes of memory for registers or arrays"; bad = 1 }
    END { for (a in registers) printf "%s: up to %d registers\n", a, registers[a]
          if (!NR) print "no kernels were found"
          exit bad || !NR }' || bad=1

# HMMA: mma.sync; HGMMA: wgmma, which sm_90a alone has.
for o in "$@"; do
    case $o in *gemm_f16* | *gemm_bf16* | *gemm_hopper* | *attention*) ;; *) continue ;; esac
    cuobjdump -sass "$o" | awk -v object="$(basename "$o")" '
        /code for sm_/ { arch = $NF }
        / Function : / { seen[arch] += 0 }
        object ~ /hopper/ ? /HGMMA/ : /HMMA/ { seen[arch]++ }
        END { for (a in seen) if (!seen[a] && (object !~ /hopper/ || a == "sm_90a")) {
                  print a ": " object " has no matrix instructions"; bad = 1 }
              exit bad || !NR }' || bad=1
done
exit ${bad:-0}
