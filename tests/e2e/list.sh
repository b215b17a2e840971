#!/bin/bash
# What is found, what is not usable and why, and that no bad library harms the host or the good ones.
. "$SRC/tests/e2e/lib.sh"
faults="segv_at_load abort_at_load exit_at_load talkative not_elf empty wrong_abi no_symbol
    no_process bad_id bad_schema not_json duplicate"
"$SRC/tests/abi/build.sh" bad good prints_at_load forks_at_load $faults || fail "cannot build"

run 0 "$SCOPE" list
says out org.example.invert org.example.color org.example.trail "Invert colours"
never out "Not usable"
run 0 "$SCOPE" list --strict

run 3 "$SCOPE" list --strict --plugin-dir bad
cp out table
run 0 env SCOPE_PATH=bad "$SCOPE" list
cmp -s out table || fail "the order depends on how a folder is named to us"
reason() { # FAULT TEXT
    grep "/$1.so" table | grep -qF -- "$2" || fail "$1: no '$2' in $(cat table)"
}
reason segv_at_load "crashes (Segmentation fault)"
reason abort_at_load "crashes (Aborted)"
reason exit_at_load "exits the process by itself"
reason talkative "floods its output"
reason not_elf "cannot be loaded: file too short"
reason empty "cannot be loaded: file too short"
reason wrong_abi "speaks ABI 77 and this host speaks"
reason no_symbol "does not export scope_entry"
reason no_process "leaves the member process"
reason bad_id "is no plugin id"
reason bad_schema "schema /properties/x/defualt"
reason not_json "not valid JSON"
reason good "same id as bad/duplicate.so"
for good in prints_at_load forks_at_load duplicate; do
    grep "$good.so" table | grep -q '^org.test' || fail "$good is not listed as usable"
done
says out org.example.invert # the good ones elsewhere are still there
"$SRC/tests/abi/build.sh" hang hang_at_load || fail "cannot build"
run 3 "$SCOPE" list --strict --plugin-dir hang
says out "hangs: not done after 5 s" org.example.trail
! pgrep -f -- "--scan .*$PWD" >/dev/null || fail "a scan is still running"

run 0 "$SCOPE" list --json --plugin-dir bad
jq -e '([.plugins[].id] | contains(["org.test.good", "org.example.trail"])) and
    (.faults | length) == 13 and all(.faults[]; .reason != "" and .path != "")' out >/dev/null ||
    fail "--json: $(cat out)"

run 0 "$SCOPE" list --plugin-dir nowhere
says out "nowhere: " "No such file"
complains 2 "Unknown option --sorted" "$SCOPE" list --sorted
complains 2 "too many arguments" "$SCOPE" list everything

# schema and doc
run 0 "$SCOPE" schema trail
says out '"half_life"' '"default": 0.25'
run 0 "$SCOPE" schema --raw "$PLUGINS/invert.so"
says out '"intensity"'
run 0 "$SCOPE" doc org.example.trail
says out '# Trail' '`half_life`'
complains 2 "did you mean trail?" "$SCOPE" schema trial
complains 2 "too few arguments" "$SCOPE" doc
complains 2 "bad_schema cannot be used" "$SCOPE" schema bad_schema --plugin-dir bad
complains 2 "cannot open ./absent.so" "$SCOPE" schema ./absent.so

# the program itself
run 0 "$SCOPE" --version
says out "scope " "ABI"
run 0 "$SCOPE" help
says out run list check "Topics: exit-codes"
run 0 "$SCOPE" help exit-codes
says out "130  interrupted"
run 0 "$SCOPE" help check
says out "--limit"
complains 2 "did you mean list?" "$SCOPE" lsit
complains 2 "did you mean exit-codes?" "$SCOPE" help exit-code
run 2 "$SCOPE"
says err "usage: scope COMMAND"
