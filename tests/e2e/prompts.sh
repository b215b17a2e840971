#!/bin/bash
# Prompts from the command line: emphasis, negatives, transitions frame by frame, and live runs.
. "$SRC/tests/e2e/lib.sh"
paint() {
    "$SCOPE" run -q --plugin streamdiffusion --model "$SRC/examples/models/tiny" --size 64x64 -y \
        --input-mode text "$@" || fail "scope run $*"
}
same() { cmp -s "$1" "$2" || fail "$3"; }
differ() { ! cmp -s "$1" "$2" || fail "$3"; }

# one word weighs more; a weight of 1, and an escaped bracket's text, do not
paint --frames 1 --prompt "a house, neon" -o plain.png
paint --frames 1 --prompt "a house, (neon:1.0)" -o one.png
paint --frames 1 --prompt "a house, (neon:1.4)" -o more.png
paint --frames 1 --prompt "a (house) neon" -o brackets.png
paint --frames 1 --prompt 'a \(house\) neon' -o escaped.png
same plain.png one.png "a weight of 1 changes the picture"
differ plain.png more.png "a weight of 1.4 changes nothing"
differ brackets.png escaped.png "an escaped bracket is emphasis"
run 0 "$SCOPE" run --plugin streamdiffusion --model "$SRC/examples/models/tiny" --size 64x64 \
    --input-mode text --frames 1 --prompt "$(yes 'a red house' | head -n 900 | paste -sd ' ')" -o long.png
says err 'has 2700 tokens; the model reads 75, not "a red house'

# without guidance the negative prompt still acts, as far as it is told to
paint --frames 1 --prompt "a house, neon" --negative-prompt neon -o not.png
paint --frames 1 --prompt "a house, neon" --negative-prompt neon --negative-prompt-scale 0 -o none.png
differ plain.png not.png "a negative prompt changes nothing"
same plain.png none.png "a negative scale of 0 changes the picture"

# a transition of 4 frames from frame 2 on: 2 to 4 on the way, 5 there; nothing else but the text moves
echo '{"prompts": [[0, "ink"], ["2f", "neon", "hold"]]}' >keys.json
paint --frames 8 --prompt ink -o ink/
paint --frames 8 --prompt neon -o neon/
paint --frames 8 --keyframes keys.json --transition-steps 4 --transition-easing ease_in_out -o way/
for i in 0 1; do same way/00000$i.png ink/000000.png "frame $i is not yet on the way"; done
for i in 2 3 4; do
    differ way/00000$i.png way/00000$((i - 1)).png "frame $i repeats the one before"
    differ way/00000$i.png neon/000000.png "frame $i is there too soon"
done
for i in 5 6 7; do same way/00000$i.png neon/000000.png "frame $i is not there"; done

# a transition of its own, by keyframes and by flags; one to nothing
echo '{"transition": [[0, {}], ["1f", {"num_steps": 3, "method": "slerp", "target_prompts": "neon"}]]}' >own.json
paint --frames 5 --prompt ink --keyframes own.json -o own/
same own/000000.png ink/000000.png "the first frame is on the way"
differ own/000002.png neon/000000.png "the third frame is there too soon"
same own/000003.png neon/000000.png "the fourth frame is not there"
run 1 "$SCOPE" run --plugin streamdiffusion --model "$SRC/examples/models/tiny" --size 64x64 \
    --input-mode text --frames 1 --prompt ink --transition.num-steps 20 -o nothing.png
says err "leads nowhere: give target_prompts"

# live: the same first frame, and every frame is ink or neon
paint --live --frames 8 --keyframes keys.json -o live/
same live/000000.png ink/000000.png "a live run begins with another text"
for i in 2 5 7; do
    cmp -s live/00000$i.png ink/000000.png || same live/00000$i.png neon/000000.png "live frame $i is neither"
done
exit 0
