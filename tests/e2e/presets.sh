#!/bin/bash
# Parameters by a name and from files: --preset, --save-params, --params, and styles.
. "$SRC/tests/e2e/lib.sh"
flags=(--plugin streamdiffusion --model "$SRC/examples/models/tiny" --size 64x64 --input-mode text --frames 1)
has() { jq -e ".streamdiffusion | $2" "$1" >/dev/null || fail "$1 is not $2: $(cat "$1")"; }

# a preset sets what it names, and everything else goes before it
run 0 "$SCOPE" run "${flags[@]}" --prompt neon --preset ultra --num-inference-steps 2 --use-taesd --save-params all.json -o a.png
has all.json '.num_inference_steps == 2 and .use_taesd and .strength == 0.7 and .prompts[0].text == "neon"'
jq -e '.streamdiffusion | length > 20' all.json >/dev/null || fail "not all parameters are kept"
for preset in "$SRC"/plugin/streamdiffusion/presets/*.json; do
    name=$(basename "$preset" .json)
    # demo names its own model and size
    [ "$name" = demo ] && some=(--plugin streamdiffusion --input-mode text --frames 1) || some=("${flags[@]}")
    run 0 "$SCOPE" run "${some[@]}" --preset "$name" --save-params "$name.json" -o "$name.png"
    jq -e --slurpfile asked "$preset" '.streamdiffusion as $v | $asked[0] | to_entries | all($v[.key] == .value)' \
        "$name.json" >/dev/null || fail "preset $name is not in force: $(cat "$name.json")"
done
# what was saved makes the same picture
run 0 "$SCOPE" run --plugin streamdiffusion --params all.json --frames 1 -o b.png
cmp a.png b.png || fail "saved parameters make another picture"
complains 2 "'all.json' exists" "$SCOPE" run "${flags[@]}" --save-params all.json -o c.png
# two plugins of one kind
run 0 "$SCOPE" run --plugin color --plugin invert --plugin invert --param 3.intensity=0.25 --frames 1 --save-params two.json -o d.png
jq -e '."org.example.invert".intensity == 1 and ."3.intensity" == 0.25' two.json >/dev/null || fail "two: $(cat two.json)"
run 0 "$SCOPE" run --plugin color --plugin invert --plugin invert --params two.json --frames 1 -o e.png
cmp d.png e.png || fail "saved parameters of a chain make another picture"

complains 2 "there are balanced, demo, quality, realtime, ultra" "$SCOPE" run "${flags[@]}" --preset fast -o c.png
complains 2 "there are balanced" "$SCOPE" run "${flags[@]}" --preset ../streamdiffusion/ultra -o c.png
complains 2 "none of the plugins has presets" "$SCOPE" run --plugin invert --preset fast a.png -o c.png

# styles
run 0 "$SCOPE" run "${flags[@]}" --prompt "a house" --style neon -o styled.png
run 0 "$SCOPE" run "${flags[@]}" --prompt "a house as neon signs at night, glowing tubes, wet street, dark background" \
    --negative-prompt daylight -o spelt.png
cmp styled.png spelt.png || fail "a style is not its template"
echo '[{"name": "mine", "prompt": "in ink"}]' >mine.json
run 0 "$SCOPE" run "${flags[@]}" --prompt "a house" --styles-path mine.json --style mine -o mine.png
run 0 "$SCOPE" run "${flags[@]}" --prompt "a house, in ink" -o spelt.png -y
cmp mine.png spelt.png || fail "a style of a file is not its template"
run 1 "$SCOPE" run "${flags[@]}" --style neno -o c.png
says err "the nearest: neon"
run 1 "$SCOPE" run "${flags[@]}" --styles-path nowhere.json -o c.png
says err "nowhere.json"
exit 0
