# lib.sh - what run.sh and bench.sh share: parts with a name, a time box and a verdict.
# Sourced; needs FOLDER (of the programs, or an archive of `make gpu-pack`) as $1, in the checkout's root.
set -uo pipefail
began=$SECONDS failed=0 summary=
scratch=$(mktemp -d "${TMPDIR:-/tmp}/scope-gpu.XXXXXX") && trap 'rm -rf "$scratch"' EXIT
folder=$1
if [ -f "$folder" ]; then
    python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$folder" "$scratch/gpu" 2>/dev/null ||
        { mkdir -p "$scratch/gpu" && tar -xf "$folder" -C "$scratch/gpu"; }
    folder=$scratch/gpu
fi
bin=$(realpath "$folder/bin")
say() { printf '[%4d s] %s\n' $((SECONDS - began)) "$*"; }
left() { echo $((limit - (SECONDS - began))); }

# part NAME SECONDS COMMAND...: at most so long, and at most what is left of all; output in $scratch/NAME.
part() {
    local name=$1 box=$2 start=$SECONDS rc=0 verdict=ok
    shift 2
    [ "$box" -le "$(left)" ] || box=$(left)
    if [ "$box" -lt 2 ]; then
        rc=124
    else
        timeout -k 5 "$box" "$@" >"$scratch/$name" 2>&1 </dev/null || rc=$?
    fi
    [ $rc = 0 ] || verdict=FAIL
    [ $rc != 124 ] && [ $rc != 137 ] || verdict="FAIL (over its time)"
    [ $rc != 77 ] || verdict=skip
    case $verdict in FAIL*) failed=1 ;; esac
    [ -z "${OUT:-}" ] || cat "$scratch/$name" >>"$OUT/log.txt" 2>/dev/null
    say "$verdict: $name, $((SECONDS - start)) s"
    summary="$summary$(printf '%-28s %6d s  %s' "$name" $((SECONDS - start)) "$verdict")
"
    return $rc
}

# Libraries that may be in the Python that has PyTorch.
python=$(command -v python3 || true)
if [ -n "$python" ] && [ -z "${SCOPE_CUDA_LIBS:-}" ]; then
    SCOPE_CUDA_LIBS=$("$python" -c 'import glob, site, sys, sysconfig
dirs = dict.fromkeys([sysconfig.get_paths()["purelib"], *site.getsitepackages()])
print(":".join(d for s in dirs for d in sorted(glob.glob(s + "/nvidia/*/lib"))))' 2>/dev/null || true)
    export SCOPE_CUDA_LIBS
fi
export OMP_WAIT_POLICY=passive LC_ALL=C.UTF-8 XDG_CACHE_HOME=${XDG_CACHE_HOME:-$scratch/cache}

verdicts() {
    printf '\n%s' "$summary"
    [ $failed = 0 ] && echo "all passed in $((SECONDS - began)) s" || echo "FAILED, after $((SECONDS - began)) s"
    exit $failed
}
