#!/bin/bash
# Completion: the scripts are sound, and in bash a plugin's flag and its values complete.
. "$SRC/tests/e2e/lib.sh"
words() { "$SCOPE" complete --words "$@" >out || fail "complete --words $*"; }
offers() { grep -qx -- "$1" out || fail "'$1' is not offered: $(cat out)"; }

words ""
offers run && offers check && offers help
words ch
[ "$(cat out)" = check ] || fail "'ch' offers: $(cat out)"
words run --plugin tr
[ "$(cat out)" = trail ] || fail "'--plugin tr' offers: $(cat out)"
words run --plugin org.example.tr
[ "$(cat out)" = org.example.trail ] || fail "a whole id offers: $(cat out)"
words run --plugin trail --ha
[ "$(cat out)" = --half-life ] || fail "'--ha' offers: $(cat out)"
words run --plugin = trail --ha # as bash splits --plugin=trail
[ "$(cat out)" = --half-life ] || fail "after --plugin= '--ha' offers: $(cat out)"
words run --plugin color --plugin invert --
offers --speed && offers --intensity && offers --output
words bench --plu
offers --plugin
words doc inv
offers invert
words help ex
offers exit-codes
words run party.mp
[ ! -s out ] || fail "files are the shell's matter, not: $(cat out)"
words nonsense --x
[ ! -s out ] || fail "an unknown command offers: $(cat out)"

for shell in bash zsh fish; do
    run 0 "$SCOPE" complete $shell
    cp out script.$shell
    ! command -v $shell >/dev/null || $shell -n script.$shell || fail "$shell cannot read its script"
done
complains 2 "name a shell" "$SCOPE" complete csh
complains 2 "name a shell" "$SCOPE" complete

# bash itself, as if TAB was pressed after `scope run --plugin trail --ha`
. ./script.bash
COMP_WORDS=(scope run --plugin trail --ha)
COMP_CWORD=4
_scope "$SCOPE"
[ "${COMPREPLY[*]}" = --half-life ] || fail "bash completes to: ${COMPREPLY[*]}"
complete -p scope | grep -q -- '-F _scope scope' || fail "no completion is registered"
