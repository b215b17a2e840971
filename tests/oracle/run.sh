#!/bin/sh
# run.sh [SEED [oracle.py options]] - the oracle, from nothing: Python, probe, comparison.
# run.sh golden networks|stream|tiny|lora - write the golden tensors of tests/golden/ again.
#
# ORACLE_PYTHON names a Python that has requirements.txt; else one is made in the cache folder.
# BUILD is the build folder (build). XDG_CACHE_HOME moves the cache of checkpoints.
set -eu
first=${1:-1}
[ $# -gt 0 ] && shift
export HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=ignore TRANSFORMERS_VERBOSITY=error
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${BUILD:-$root/build}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/scope-oracle

if [ -z "${ORACLE_PYTHON:-}" ]; then
    ORACLE_PYTHON=$cache/venv/bin/python
    if ! [ -f "$cache/venv/complete" ]; then
        python3 -m venv "$cache/venv"
        "$cache/venv/bin/pip" install --quiet -r "$here/requirements.txt"
        # For CLIP's list of merges alone; without it a made-up vocabulary serves.
        "$cache/venv/bin/pip" install --quiet --no-deps open_clip_torch==3.3.0 || true
        touch "$cache/venv/complete"
    fi
fi

cd "$root"
make --no-print-directory BUILD="$build" "$build/tests/oracle/probe" "$build/tests/oracle/names"
[ "$first $*" != "golden lora" ] || exec "$ORACLE_PYTHON" tests/oracle/lora.py
[ "$first" != golden ] || exec "$ORACLE_PYTHON" tests/oracle/golden.py "$build/tests/oracle/probe" "$@"
"$ORACLE_PYTHON" tests/oracle/single.py "$build/tests/oracle/names" "$first"
exec "$ORACLE_PYTHON" tests/oracle/oracle.py "$build/tests/oracle/probe" --seed "$first" "$@"
