#!/bin/bash
# The five steps of examples/README.md, executed as they stand there, in an empty folder.
. "$SRC/tests/e2e/lib.sh"
mkdir home work bin
ln -s "$SCOPE" bin/scope
export HOME=$PWD/home PATH=$PWD/bin:$PATH SRC
here=$PWD

awk '/^\*\*[1-5]\. /{step++} /^```sh$/{inside=1; next} /^```$/{inside=0} inside{print > ("step" step ".sh")}' \
    "$SRC/examples/README.md"
[ "$(ls step[1-5].sh | wc -l)" = 5 ] || fail "there are not five steps: $(ls)"
cd work
for step in 1 2 3 4 5; do
    echo "== step $step"
    bash -eu "../step$step.sh" >"../out$step" 2>&1 || fail "step $step: $(cat "../out$step")"
done
cd "$here"
says out4 "0 warned, 0 failed"
says out5 "org.example.me.dim" "Dim"
[ -s work/dimmed.mp4 ] || fail "nothing came out: $(ls work)"

# The examples see nothing but the installed header, from an installed place.
mkdir include && cp "$SRC"/plugin/scope_*.h include/
for source in "$SRC"/examples/*/*.c; do
    "${CC:-cc}" -std=c11 -Wall -Wextra -Werror -fPIC -fvisibility=hidden -shared -Iinclude -o example.so "$source" -lm ||
        fail "$source does not build from the headers alone"
    run 0 "$SCOPE" check example.so
done
