#!/bin/sh
# mutate.sh - do the tests notice a kernel that lost a barrier, a wait for a copy, or a bounds check?
#
# usage: mutate.sh [-n COUNT] [-t SECONDS] FILE.cu=PROGRAM...
#   PROGRAM   the test programs of that file, run one after another: a command each, separated by ,
#   -n COUNT  only COUNT mutants, evenly spread over all (the same ones each time); default: all
#   -t SECONDS  a test that runs longer counts as having noticed; default 120
# The environment has, for a build that is complete:
#   MUTATE_OBJECTS  the folder of the objects NAME.cu.o that the programs are linked from
#   MUTATE_COMPILE  compiles: called with a source (a changed copy elsewhere) and the object
#   MUTATE_LINK     links the programs again
# One mutant changes one line of device code. Objects are put back at the end, whatever happens. A
# mutant that equivalent.txt names ("FILE.cu: KIND: the line") means the same and is not run.
set -u
count=0 limit=120
while getopts n:t: option; do
    case $option in
    n) count=$OPTARG ;;
    t) limit=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] && [ -n "${MUTATE_COMPILE:-}" ] && [ -n "${MUTATE_OBJECTS:-}" ] || { sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
object=
restore() {
    [ -n "$object" ] && cp -p "$work/object" "$object" && ${MUTATE_LINK:-true} >/dev/null 2>&1
    object=
}
trap 'restore; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# FILE LINE KIND of each mutant: what a line has decides what happens to it.
mutants() {
    awk '/^[A-Za-z_]/ {
             device = ($0 ~ /__global__|__device__|DEVICE/) || ($0 ~ /^template/ && device) }
         { line = $0; sub(/\/\*.*\*\//, "", line) }
         !device || /^[^ ]/ { next }
         line ~ /__sync(threads|warp)\(\);/ { print FILENAME, FNR, "barrier" }
         line ~ /[a-z]_wait[a-z_]*(<[^>]*>)?\([^;]*\);/ {
             if (line !~ /grid_wait/) print FILENAME, FNR, "wait"
             else if (ENVIRON["CUDASIM_ARCH"] >= 90) print FILENAME, FNR, "wait" }
         line ~ /if \(.* (<|>|>=) / { print FILENAME, FNR, "bound" }' "$1"
}
mutate() { # KIND LINE FILE
    case $1 in
    barrier) sed "$2s/__sync\(threads\|warp\)();/;/" "$3" ;;
    wait) sed "$2s/[a-z_]*_wait[a-z_]*\(<[^>]*>\)\{0,1\}([^;]*);/;/" "$3" ;;
    bound) sed "$2s/ >= / > /; t
$2s/\([^-]\) > /\1 >= /; t
$2s/\([^<]\) < /\1 <= /" "$3" ;;
    esac
}

for pair; do
    mutants "${pair%%=*}" | sed "s|\$| ${pair#*=}|"
done >"$work/all"
total=$(wc -l <"$work/all")
[ "$count" -gt 0 ] && [ "$count" -lt "$total" ] || count=$total
awk -v n="$count" -v total="$total" 'int(NR * n / total) > int((NR - 1) * n / total)' \
    "$work/all" >"$work/chosen"

noticed=0 missed=0 known=0
while read -r source line kind programs; do
    text=$(sed -n "${line}s/^ *//p" "$source")
    if grep -qxF "$(basename "$source"): $kind: $text" "$here/equivalent.txt" 2>/dev/null; then
        known=$((known + 1))
        continue
    fi
    object=$MUTATE_OBJECTS/$(basename "$source").o
    mutant=$work/$(basename "$source")
    cp -p "$object" "$work/object"
    mutate "$kind" "$line" "$source" >"$mutant"
    how=missed
    if cmp -s "$mutant" "$source"; then
        how=same
    elif ! $MUTATE_COMPILE "$mutant" "$object" >"$work/log" 2>&1; then
        how="does not compile"
    elif ! ${MUTATE_LINK:-true} >>"$work/log" 2>&1; then
        how="does not link"
    else
        IFS=,
        for program in $programs; do
            IFS=' '
            timeout "$limit" $program >"$work/log" 2>&1 </dev/null || { how=noticed; break; }
        done
        unset IFS
    fi
    restore
    why=$(sed -n 's/^cudasim: //p' "$work/log" | head -1 | cut -c1-90)
    printf '%-9s %s:%s %s: %s%s\n' "$how" "$source" "$line" "$kind" "$text" "${why:+ [$why]}"
    case $how in
    noticed) noticed=$((noticed + 1)) ;;
    missed) missed=$((missed + 1)) ;;
    esac
done <"$work/chosen"
echo "mutants: $noticed noticed, $missed missed, $known known to be equivalent, of $total possible"
[ "$missed" = 0 ]
