#!/bin/bash
# run.sh JOBS TEST...: run every test (a program, or a .sh script) and say how it went.
# A test passes with 0, skips with 77 (its last line says why) and fails with anything else.
# Needs BUILD (absolute); LOGS is build/test-logs, where not set. Scripts get SCOPE, PLUGINS, SRC, TOOLS
# (clients that are not ours) and their own TMP.
jobs=$1
shift
SRC=$(cd "$(dirname "$0")/.." && pwd)
export SRC BUILD SCOPE=$BUILD/scope PLUGINS=$BUILD/plugins LOGS=${LOGS:-$BUILD/test-logs}
# Nothing of the person's own machine leaks into a test.
unset SCOPE_PATH
# Nor does its GPU, whose sums are rounded in another way: `make gpu-test` is for it.
export CUDA_VISIBLE_DEVICES=
# Tests run side by side: a thread that waits must not spin on another's processor.
export OMP_WAIT_POLICY=passive
export HOME=$LOGS/home LC_ALL=C.UTF-8 GST_DEBUG_NO_COLOR=1 G_DEBUG=fatal-criticals
rm -rf "$LOGS" && mkdir -p "$HOME"

run_one() {
    name=$(realpath --relative-to="$SRC" "$1")
    name=${name#build/}
    log=$LOGS/$(echo "${name%.sh}" | tr / -).log
    TMP=$(mktemp -d "${TMPDIR:-/tmp}/scope-test.XXXXXX") && export TMP
    start=$(date +%s%N)
    case $1 in
    *.sh) (cd "$TMP" && timeout -k 5 "${TEST_TIMEOUT:-300}" bash "$1") >"$log" 2>&1 </dev/null ;;
    *) (cd "$TMP" && timeout -k 5 "${TEST_TIMEOUT:-300}" $TEST_WRAP "$1" $TEST_ARGS) >"$log" 2>&1 </dev/null ;;
    esac
    rc=$?
    ms=$((($(date +%s%N) - start) / 1000000))
    rm -rf "$TMP"
    case $rc in
    0) verdict=pass ;;
    77) verdict=skip ;;
    124 | 137) verdict=fail; echo "timed out after ${TEST_TIMEOUT:-300} s" >>"$log" ;;
    *) verdict=fail ;;
    esac
    echo "$verdict" >"$log.verdict"
    printf '%-4s %6d ms  %s\n' $verdict $ms "$name"
    [ $verdict = skip ] && tail -n 1 "$log" | sed 's/^/       /'
    [ $verdict = fail ] && tail -n 40 "$log" | sed 's/^/       /'
    return 0
}
export -f run_one

printf '%s\0' "$@" | xargs -0 -P "$jobs" -I{} bash -c 'run_one "$1"' _ {}

count() { cat "$LOGS"/*.verdict 2>/dev/null | grep -c "^$1$"; }
echo "$(count pass) passed, $(count fail) failed, $(count skip) skipped"
[ "$(count fail)" = 0 ] && [ "$(count pass)" -gt 0 ]
