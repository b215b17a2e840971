#!/bin/bash
# `scope run` end to end: generators, chains, pipes, pictures, keyframes, parameters, Ctrl-C, JSON.
. "$SRC/tests/e2e/lib.sh"

# a generator, and the same number of frames back
run 0 "$SCOPE" run --plugin color --frames 12 --size 64x48 -o c.mp4
says err "c.mp4: 12 written"
run 0 "$SCOPE" run c.mp4 -o c/
[ "$(ls c | wc -l)" = 12 ] || fail "12 frames made $(ls c | wc -l) pictures"
[ -z "$(ls -- *.part 2>/dev/null)" ] || fail "a part file is left"
run 0 "$SCOPE" run --plugin color --frames 2 --waves 5 --fps 10 --width 32 --height 16 -o -
head -n 1 out | grep -q '^YUV4MPEG2 W32 H16 F10:1 ' || fail "header: $(head -n 1 out)"

# pipes: 4:4:4 is unchanged by RGB and back, at an odd size too
run 0 "$SCOPE" run --plugin color --frames 6 --size 63x47 -o a.y4m
"$SCOPE" run --plugin passthrough - -o - <a.y4m >b.y4m 2>err || fail "passthrough: $(cat err)"
cmp a.y4m b.y4m || fail "a pipe changes the picture"
run 0 "$SCOPE" run --plugin invert --plugin invert a.y4m -o b.y4m --overwrite
cmp a.y4m b.y4m || fail "inverting twice changes the picture"
"$SCOPE" run -q --plugin invert - <a.y4m | "$SCOPE" run -q --plugin invert - >b.y4m
cmp a.y4m b.y4m || fail "two scopes in a pipe change the picture"
"$SCOPE" run -q --plugin invert a.y4m -o - >b.y4m
! cmp -s a.y4m b.y4m || fail "invert does nothing"
! (set -o pipefail; "$SCOPE" run --plugin color --frames 5000 -o - 2>err | head -c 100 >/dev/null) ||
    fail "a closed pipe is no failure"
says err "the program that reads '-' has ended"

# pictures there and back; gaps in the numbers, --start and --frames
run 0 "$SCOPE" run a.y4m -o "p%03d.png"
run 0 "$SCOPE" run "p%03d.png" -o b.y4m --overwrite
cmp a.y4m b.y4m || fail "PNG changes the picture"
rm p002.png
run 0 "$SCOPE" run "p%03d.png" -o gap/
[ "$(ls gap | wc -l)" = 5 ] || fail "a gap in the numbers ends the sequence"
run 0 "$SCOPE" run gap --start 0.083334 --frames 2 -o two/ # 2 frames of 24 a second
cmp gap/000002.png two/000000.png || fail "--start begins at another frame"
[ "$(ls two | wc -l)" = 2 ] || fail "--frames 2 made $(ls two | wc -l)"
run 0 "$SCOPE" run --plugin invert p000.png
[ -s p000-invert.png ] || fail "the name of the output is not derived from the input"
run 0 "$SCOPE" run p000.png --frames 7 -o still.mp4
run 0 "$SCOPE" run still.mp4 -o still/
[ "$(ls still | wc -l)" = 7 ] || fail "a still picture of 7 frames has $(ls still | wc -l)"

# the value of a grey pixel after invert with keyframes: it moves on the right frames
grey() { # FOLDER: the first byte of luma of each frame, from Y4M
    "$SCOPE" run -q "$1" -o g.y4m --overwrite
    od -An -v -tu1 -w$((6 + 3 * 16 * 16)) -j"$(head -n 1 g.y4m | wc -c)" g.y4m | awk '{print $7}' |
        paste -sd ' '
}
bytes() { head -c "$1" /dev/zero | tr '\0' "$2"; } # COUNT OCTAL
{
    echo "YUV4MPEG2 W16 H16 F24:1 C444"
    for _ in $(seq 10); do
        echo FRAME
        bytes 256 '\353'
        bytes 512 '\200'
    done
} >w.y4m
echo '{"intensity": [["2f", 0], ["6f", 1]]}' >k.json
run 0 "$SCOPE" run --plugin invert w.y4m --keyframes k.json -o k/
[ "$(grey k)" = "235 235 235 180 126 71 16 16 16 16" ] || fail "keyframes: $(grey k)"
# by seconds, holding, with --start: times are those of the input
echo '{"1.intensity": [[0, 0], [0.25, 1, "hold"]]}' >k.json
run 0 "$SCOPE" run --plugin invert w.y4m --keyframes k.json --start 0.125 -o k/ -y
rm -f k/000007.png k/000008.png k/000009.png
[ "$(grey k)" = "235 235 235 16 16 16 16" ] || fail "keyframes after --start: $(grey k)"
run 0 "$SCOPE" run --plugin invert w.y4m --keyframes "$(cat k.json)" --start 0.125 -o k/ -y
[ "$(grey k)" = "235 235 235 16 16 16 16" ] || fail "keyframes as text: $(grey k)"
complains 2 "{\"intensity\": [[0, 0]" "$SCOPE" run --plugin invert w.y4m -o x.mp4 --keyframes '{"intensity": [[0, 0]'
complains 2 "hold" "$SCOPE" run --plugin invert w.y4m -o x.mp4 --keyframes <(echo '{"intensity": [[0, 0, "jump"]]}')
complains 2 "0 to 1" "$SCOPE" run --plugin invert w.y4m -o x.mp4 --keyframes <(echo '{"intensity": [[0, 7]]}')

# parameters: flags, addresses, files; whose they are
run 0 "$SCOPE" run --plugin invert --plugin invert w.y4m --intensity 0 --param 2.intensity=1 --frames 1 -o i/
[ "$(grey i)" = 16 ] || fail "2.intensity: $(grey i)"
echo '{"invert": {"intensity": 0}}' >p.json
run 0 "$SCOPE" run --plugin invert w.y4m --params p.json --frames 1 -o i/ -y
[ "$(grey i)" = 235 ] || fail "--params: $(grey i)"
run 0 "$SCOPE" run --plugin invert w.y4m --params p.json --intensity=1 --frames 1 -o i/ -y
[ "$(grey i)" = 16 ] || fail "a flag does not win over the file: $(grey i)"
complains 2 "did you mean 'intensity'" "$SCOPE" run --plugin invert --intensty 1 w.y4m -o x.mp4
complains 2 "did you mean 'overwrite'" "$SCOPE" run --plugin invert --overwrit w.y4m -o x.mp4
complains 2 "0 to 1" "$SCOPE" run --plugin invert --intensity 1.5 w.y4m -o x.mp4
complains 2 "number" "$SCOPE" run --plugin invert --intensity much w.y4m -o x.mp4
complains 2 "has a seed" "$SCOPE" run --plugin invert --seed 3 w.y4m -o x.mp4
complains 2 "did you mean invert" "$SCOPE" run --plugin invrt w.y4m -o x.mp4
complains 2 "--frames" "$SCOPE" run --plugin color -o x.mp4
complains 2 "needs an INPUT" "$SCOPE" run --plugin invert --frames 3 -o x.mp4
complains 2 "leave 'w.y4m' out" "$SCOPE" run --plugin color w.y4m -o x.mp4
complains 1 "put it first" "$SCOPE" run --plugin invert --plugin color w.y4m -o x.mp4
complains 2 "unknown ending" "$SCOPE" run w.y4m -o x.doc
complains 2 "--size" "$SCOPE" run w.y4m --size 64 -o x.mp4
complains 2 "--fit" "$SCOPE" run w.y4m --fit squash -o x.mp4
complains 2 "one picture" "$SCOPE" run w.y4m -o x.jpg --frames 2

run 0 "$SCOPE" run --plugin invert --help
says out "--keyframes" "--intensity" "Invert colours"

# --json: every line parses, and tells what happened
run 0 "$SCOPE" run --plugin invert w.y4m -o j.mp4 --json
jq -es '.[0].event == "start" and .[0].plugins == ["org.example.invert"] and
    (.[-1] | .event == "end" and .output == "j.mp4" and .error == null and
        .read == 10 and .written == 10 and .failed == 0 and .skipped == 0)' out >/dev/null ||
    fail "--json: $(cat out)"
[ ! -s err ] || fail "--json also talks on stderr: $(cat err)"
run 0 "$SCOPE" run --quiet --plugin invert w.y4m -o j.mp4 -y
[ ! -s err ] && [ ! -s out ] || fail "--quiet talks: $(cat err out)"

# Ctrl-C: a whole file, 130, and a --start that goes on from there
interrupt() { # BYTES OUTPUT ARGUMENT...: run, and press Ctrl-C when the part file has grown so far
    local bytes=$1 output=$2 pid
    shift 2
    "$SCOPE" run "$@" -o "$output" 2>err &
    pid=$!
    for _ in $(seq 400); do
        [ "$(cat "$output".*.part 2>/dev/null | wc -c)" -gt "$bytes" ] && break
        sleep 0.02
    done
    kill -INT $pid
    wait $pid
    [ $? = 130 ] || fail "Ctrl-C did not exit with 130: $(cat err)"
    says err "goes on from here"
    made=$(sed -n "s/^$output: \([0-9]*\) written.*/\1/p" err)
}
interrupt 250000 int.mp4 --plugin color --frames 1000000 --size 160x120
says err "--start" "--frames $((1000000 - made))"
total=$made
run 0 "$SCOPE" run int.mp4 -o - --json
says err "\"written\":$total,"
# the same with an input: both parts together are the whole
interrupt 1000 part1.mkv --plugin trail int.mp4
start=$(sed -n 's/.*--start \([0-9.]*\).*/\1/p' err)
run 0 "$SCOPE" run --plugin trail int.mp4 --start "$start" -o part2.mkv
rest=$(sed -n 's/^part2.mkv: \([0-9]*\) written.*/\1/p' err)
[ $((made + rest)) = "$total" ] || fail "$made frames before --start $start and $rest after are not $total"
# a second Ctrl-C ends it at once, and leaves nothing
mkfifo pipe
"$SCOPE" run - -o gone.mp4 <pipe 2>err &
pid=$!
exec 9>pipe
head -c 40000 w.y4m >&9 2>/dev/null
sleep 0.5
kill -INT $pid
sleep 0.2
kill -INT $pid 2>/dev/null
wait $pid
[ $? = 130 ] || fail "two Ctrl-C did not exit with 130"
exec 9>&-
[ -z "$(ls gone.mp4.*.part 2>/dev/null)" ] || fail "a part file is left by Ctrl-C"

# a contact sheet beside the video
run 0 "$SCOPE" run --plugin invert w.y4m -o s.mp4 --sheet sheet.png
[ "$(head -c 4 sheet.png | tail -c 3)" = PNG ] || fail "no contact sheet"

# bench: the host adds at most 1 ms to a frame of 512x512
run 0 "$SCOPE" bench --plugin passthrough --frames 20 --json
jq -e '.frames == 20 and .host_ms <= 1' out >/dev/null || fail "bench: $(cat out)"
run 0 "$SCOPE" bench --plugin color --size 64x48 --frames 3 --waves 3
says out "3 frames of 64x48" "median" "peak memory"
never out "plan"
run 0 "$SCOPE" bench --plugin color --size 64x48 --frames 3 --plan
says out "plan         none: there was nothing to choose"
run 0 "$SCOPE" bench --plugin color --size 64x48 --frames 3 --plan --json
jq -e '.plan == []' out >/dev/null || fail "bench --plan: $(cat out)"
complains 2 "which plugin" "$SCOPE" bench
exit 0
