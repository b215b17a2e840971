#!/bin/bash
# What only a trained model can show: prompt, negative prompt, strength, seed, guidance, blending and
# text mode each move the picture in the direction that they promise. judge_looks says which look a
# picture shows; it has learnt from rendered looks alone, and the photographs are in no training set.
# MODEL: another checkpoint than the one that ships.
. "$SRC/tests/e2e/lib.sh"
model=${MODEL:-$SRC/examples/models/tiny}
golden=$SRC/tests/golden/looks
[ -s "$model/model_index.json" ] || fail "there is no model in $model"
mapfile -t looks < <(jq -r '.[1:][]' "$golden/classifier/classes.json")
restyle() { "$SCOPE" run -q --plugin streamdiffusion --model "$model" --size 256x256 -y "$@"; }

# shot NAME VIEW SETTINGS: one frame of the film, with settings of its own. A name has the view's at
# its end, so that promises can be made for each view.
shots=0
shot() {
    cp "$golden/$2.jpg" "in/$(printf %04d $shots).jpg"
    shots=$((shots + 1))
    jq -nc --arg name "$1 $2" --argjson set "$3" '{$name, $set}' >>shots
}
mkdir in
for view in cat admiral; do
    shot source $view '{"enabled": false}'
    shot plain $view '{}'
    shot "plain, weak" $view '{"strength": 0.4}'
    for look in "${looks[@]}"; do
        shot "$look" $view "{\"prompts\": \"$look\"}"
        shot "weak $look" $view "{\"prompts\": \"$look\", \"strength\": 0.4}"
    done
    for look in pencil neon blueprint ice; do
        shot "no $look" $view "{\"negative_prompt\": \"$look\", \"guidance_scale\": 2}"
        shot "away from $look" $view "{\"negative_prompt\": \"$look\"}"
        shot "oil and $look" $view "{\"prompts\": \"oil, $look\"}"
        shot "oil, not $look" $view "{\"prompts\": \"oil, $look\", \"negative_prompt\": \"$look\"}"
        shot "guided $look" $view "{\"prompts\": \"$look\", \"strength\": 0.4, \"guidance_scale\": 1.5}"
    done
    for value in 0.2 0.8; do
        shot "$value" $view "{\"prompts\": \"oil\", \"strength\": $value}"
    done
    for seed in 42 43; do
        shot "seed $seed" $view "{\"prompts\": \"oil\", \"seed\": $seed}"
    done
    for weights in "1 0" "1 1" "0 1"; do
        shot "blend $weights" $view "{\"prompts\": [{\"text\": \"thermal\", \"weight\": ${weights% *}},
            {\"text\": \"chalk\", \"weight\": ${weights#* }}]}"
    done
    for look in ink oil "stained glass" gold; do
        shot "4 steps $look" $view "{\"prompts\": \"$look\", \"num_inference_steps\": 4}"
    done
done

# The settings of all shots as keyframes: [frame, value, how it is reached]. Each is a film of one frame, so
# all its steps have its settings.
jq -s '{enabled: true, prompts: "", negative_prompt: "", strength: 0.6, seed: 42, guidance_scale: 1,
        num_inference_steps: 1, use_denoising_batch: false} as $usual | map($usual + .set) | . as $all |
    $usual | with_entries(.key as $k | .value = [$all | to_entries[] | ["\(.key)f", .value[$k], "hold"]])
' shots >keys.json
restyle in --keyframes keys.json -o film.y4m || fail "scope run failed"
judge_looks=$BUILD/tests/tools/judge_looks
"$judge_looks" "$golden/classifier" film.y4m >judged || fail "judge_looks failed"
[ "$(wc -l <judged)" = $shots ] || fail "$shots shots made $(wc -l <judged) frames"
jq -s --slurpfile judged judged 'to_entries | map({key: .value.name, value: ($judged[.key] + {at: .key})}) |
    from_entries' shots >film.json

# promise TEXT CONDITION: of the film, for both views, in jq. apart: the distance of two shots.
broken=
promise() {
    local view
    for view in cat admiral; do
        jq -e --arg v $view 'def shot($name): .["\($name) \($v)"];
            def apart($a; $b): [shot($a), shot($b)] | sort_by(.at) | .[1].from[.[0].at];
            '"$2" film.json >/dev/null || { echo "FAIL: $view: $1" && broken=1; }
    done
}
# recognised PERCENT PREFIX LOOK...: so many of the shots "PREFIX LOOK" show their look.
recognised() {
    local least=$1 prefix=$2
    shift 2
    jq -r --arg prefix "$prefix" '[$ARGS.positional[] as $l | ("cat", "admiral") as $v |
        .["\($prefix)\($l) \($v)"] | {$l, $v, look}] |
        "\(100 * (map(select(.look == .l)) | length) / length | floor)",
        (.[] | select(.look != .l) | "  \(.v): \(.l) was asked for, \(.look) is seen")' \
        film.json --args "$@" >seen
    echo "${prefix:-1 step }: $(sed 1q seen)% recognised" && sed 1d seen
    [ "$(sed 1q seen)" -ge "$least" ] || { echo "FAIL: less than $least%" && broken=1; }
}
four='[("pencil", "neon", "blueprint", "ice") as $l |'

promise "the source is a photo to the judge" 'shot("source").look == "photo"'
# Two views: one picture is 3%. The bar of 80% is kept over 256 pictures, in EVALUATION.md.
recognised 75 "" "${looks[@]}"
recognised 75 "4 steps " ink oil "stained glass" gold
promise "a negative prompt leads away from its look" \
    "$four"'apart("no \($l)"; $l) > apart("plain"; $l)] | all'
promise "a negative prompt leads away from its look without guidance, too" \
    "$four"'apart("away from \($l)"; $l) > apart("plain"; $l)] | all'
promise "and makes a look that the prompt names ten times less likely" \
    "$four"'shot("oil and \($l)").p[$l] > 10 * shot("oil, not \($l)").p[$l]] | all'
promise "guidance leads farther from the picture without a prompt" \
    "$four"'apart("guided \($l)"; "plain, weak") > apart("weak \($l)"; "plain, weak")] | all'
promise "guidance makes the look surer" \
    "$four"'shot("guided \($l)").p[$l] - shot("weak \($l)").p[$l]] | add > 0'
promise "strength leads away from the source" \
    '[("0.2", "weak oil", "oil", "0.8") as $s | apart("source"; $s)] | . == sort and .[0] < .[3]'
promise "the same seed gives the same picture" 'apart("seed 42"; "oil") == 0'
promise "another seed gives another picture, and changes it less than another prompt" \
    'apart("seed 42"; "seed 43") as $d | $d > 0.5 and $d < apart("ink"; "oil") / 2'
promise "a prompt of weight 0 is none" \
    'apart("blend 1 0"; "thermal") == 0 and apart("blend 0 1"; "chalk") == 0'
promise "a blend of two prompts lies between them" \
    'apart("thermal"; "chalk") as $d | [apart("blend 1 1"; ("thermal", "chalk")) < $d] | all'

# The same frame in a run of its own, with flags instead of keyframes.
restyle in/0001.jpg --prompt oil --strength 0.6 --seed 42 -o alone.y4m || fail "scope run failed"
at=$(jq '.["oil cat"].at' film.json) bytes=$((3 * 256 * 256))
tail -c +$(($(sed 1q film.y4m | wc -c) + at * (6 + bytes) + 7)) film.y4m | head -c $bytes |
    cmp - <(tail -c $bytes alone.y4m) || fail "another run of the same seed makes another picture"

# From text alone.
printf '%s\n' "${looks[@]}" | jq -nR '{prompts: [[inputs] | to_entries[] |
    ["\(.key)f", "\(.value) of a flower", "hold"]]}' >keys.json
restyle --input-mode text --frames ${#looks[@]} --num-inference-steps 4 --use-denoising-batch false --keyframes keys.json \
    -o text.y4m || fail "scope run --input-mode text failed"
"$judge_looks" "$golden/classifier" text.y4m >judged || fail "judge_looks failed"
n=$(paste <(jq -r .look judged) <(printf '%s\n' "${looks[@]}") | awk -F'\t' '$1 == $2' | wc -l)
echo "from text alone: $n of ${#looks[@]} recognised"
[ $((2 * n)) -ge ${#looks[@]} ] || fail "less than half of the looks are recognised from text alone"
[ -z "$broken" ]
