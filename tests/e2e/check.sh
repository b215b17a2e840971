#!/bin/bash
# The good examples pass, and each faulty plugin fails (or is warned of) for its own reason.
. "$SRC/tests/e2e/lib.sh"
for name in invert color trail passthrough; do
    run 0 "$SCOPE" check "$PLUGINS/$name.so"
    never out "warn "
    says out " 0 warned, 0 failed"
done

judged() { # CODE VERDICT NAME TEXT FAULT
    local code=$1 verdict=$2 name=$3 text=$4 fault=$5
    "$SRC/tests/abi/build.sh" . "$fault" || fail "cannot build $fault"
    run "$code" "$SCOPE" check --limit 2 "$fault.so"
    grep -E "^$verdict +$name " out | grep -qF -- "$text" ||
        fail "$fault: no '$verdict $name $text' in: $(cat out)"
    [ "$code" = 3 ] || [ "$verdict" != fail ] || fail "$fault failed with $code"
}
judged 0 pass sizes "input read-only" good
judged 0 pass sizes "1 size" fixed_size
judged 0 pass sizes "a generator" generator
judged 0 pass sizes "7 sizes" emits_nothing
judged 0 pass sizes "7 sizes" unchanged
judged 3 fail load "crashes (Segmentation fault)" segv_at_load
judged 3 fail load "ABI 77" wrong_abi
judged 3 fail symbols "does not export scope_entry" no_symbol
judged 3 fail symbols "exports extra_symbol besides" two_symbols
judged 3 fail symbols "no 64-bit ELF" not_elf
judged 3 fail load "/properties/x/defualt" bad_schema
judged 3 fail load "is no plugin id" bad_id
judged 3 fail init "no model" fails_in_init
judged 0 warn init "no weights; set model" needs_weights
judged 3 fail crash "in init()" crashes_in_init
judged 3 fail init "impossible frames" wants_nonsense
judged 3 fail sizes "cannot do that" fails_in_process
judged 3 fail sizes "neither its input nor" alien_output
judged 3 fail sizes "changed the shape" bends_strides
judged 3 fail sizes "the device is gone" loses_device
judged 3 fail sizes "returned 5" positive_status
judged 3 fail crash "crashes (Segmentation fault) in process() on 17x31 pixels" crashes_in_process
judged 3 fail crash "crashes (Aborted) in process() on 1x1" aborts_in_process
judged 3 fail crash "ends the process by itself in process()" exits_in_process
judged 3 fail crash "takes longer than --limit allows in process()" hangs_in_process
judged 3 fail crash "past the end of its frame" overruns
judged 3 fail crash "before the start of its frame" underruns
judged 3 fail crash "wrote to its input" writes_input
judged 3 fail crash "after it had gone back" uses_old_frame
judged 3 fail crash "fini()" crashes_in_fini
judged 3 fail repeat "leaves part of its output unwritten" unwritten
judged 0 warn repeat "another output after reset()" random
judged 3 fail threads "called host->video() outside process()" video_in_init
judged 3 fail threads "called host->progress() outside init()" progress_in_process
if [ -z "${ASAN_OPTIONS:-}" ]; then # the sanitizer's own memory hides these
    judged 3 fail leaks "an instance leaks" leaks_instance
    judged 3 fail leaks "process() leaks" leaks_in_process
fi
judged 3 fail leaks "leaves files open" leaks_file
judged 0 warn allocation "asks for memory 1 times a frame" allocates

"$SRC/tests/abi/build.sh" . two_plugins && run 0 "$SCOPE" check two_plugins.so
says out "org.test.two_plugins.second 1.2.3" "25 passed"

# given what it needs, it is judged in full
run 0 "$SCOPE" check --param model=weights needs_weights.so
says out "0 warned, 0 failed"
complains 2 "--param model: write it as NAME=VALUE" "$SCOPE" check --param model good.so
complains 2 "amount" "$SCOPE" check --param amount=99 good.so

run 3 "$SCOPE" check --json overruns.so
jq -e '.good == false and .file == "overruns.so" and
    [.judgements[] | select(.verdict == "fail").name] == ["crash"]' out >/dev/null || fail "--json: $(cat out)"
complains 2 "cannot read absent.so" "$SCOPE" check absent.so
complains 2 "too few arguments" "$SCOPE" check
