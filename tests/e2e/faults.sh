#!/bin/bash
# Whatever goes wrong: one line that says what and why, a non-zero exit, and nothing half-written
# under the final name.
. "$SRC/tests/e2e/lib.sh"
clean() { # nothing of x.* is there
    [ -z "$(ls x.* 2>/dev/null)" ] || fail "left behind: $(ls x.*)"
}
refused() { # TEXT INPUT [OPTION...]
    local text=$1 input=$2
    shift 2
    complains 1 "$text" timeout 20 "$SCOPE" run --plugin invert "$input" -o x.mp4 "$@"
    clean
}
run 0 "$SCOPE" run --plugin color --frames 24 --size 64x48 -o c.mp4
run 0 "$SCOPE" run --plugin color --frames 6 --size 64x48 -o c.y4m

# inputs
refused "No such file" absent.mp4
: >empty.mp4
refused "is empty" empty.mp4
echo "not a video at all" >text.mp4
refused "cannot read 'text.mp4'" text.mp4
head -c 20000 /dev/zero >zeros.mp4
refused "cannot read 'zeros.mp4'" zeros.mp4
head -c 700 c.mp4 >short.mp4
refused "cannot read 'short.mp4'" short.mp4
: >empty.png
refused "is empty" empty.png
echo "no picture" >text.png
refused "no png picture" text.png
run 0 "$SCOPE" run c.mp4 --frames 1 -o cut.png
truncate -s -40 cut.png
refused "cut off" cut.png
mkdir none
refused "no PNG or JPEG pictures" none
refused "no PNG or JPEG pictures" "none/%04d.png"
refused "no frames after --start 9" c.mp4 --start 9
head -n 1 c.y4m >header.y4m
refused "has no frames" header.y4m
echo "YUV4MPEG2 W0 H48 F24:1" >size.y4m
refused "W0" size.y4m
echo "YUV4MPEG2 W64 H48 C411" >chroma.y4m
refused "C411" chroma.y4m
echo "hello" | complains 1 "not Y4M" "$SCOPE" run --plugin invert - -o x.mp4
clean
refused "cannot read" http://127.0.0.1:9/none.mp4
refused "dev" /dev/video77

# an input that breaks off: what came before is kept, and the exit says that it broke
head -c 40000 c.y4m >cut.y4m
run 1 "$SCOPE" run --plugin invert cut.y4m -o cut.mp4
says err "cut off" "what came before is in 'cut.mp4'"
run 0 "$SCOPE" run cut.mp4 -o cut/
[ "$(ls cut | wc -l)" = 4 ] || fail "4 whole frames made $(ls cut | wc -l)"

# outputs
complains 1 "cannot write 'absent/x.mp4': No such file" "$SCOPE" run c.mp4 -o absent/x.mp4
complains 1 "cannot write 'absent/x.png'" "$SCOPE" run c.mp4 --frames 1 -o absent/x.png
complains 1 "cannot write '/proc/x.mp4'" "$SCOPE" run c.mp4 -o /proc/x.mp4 # nobody may write there
echo precious >kept.mp4
complains 2 "'kept.mp4' exists" "$SCOPE" run c.mp4 -o kept.mp4
[ "$(cat kept.mp4)" = precious ] || fail "an output was replaced without --overwrite"
run 1 "$SCOPE" run text.mp4 -o kept.mp4 --overwrite
[ "$(cat kept.mp4)" = precious ] || fail "a failed run replaced its output"
run 0 "$SCOPE" run c.mp4 -o kept.mp4 --overwrite
[ "$(head -c 8 kept.mp4 | tail -c 4)" = ftyp ] || fail "--overwrite did not"
"$SCOPE" run -q --plugin color --frames 3 -o - >/dev/full 2>err
[ $? = 1 ] || fail "a full disk is no failure"
says err "the disk is full"

# a full disk: a small file system where there may be one, else a limit on the size of files
full() { # OUTPUT COMMAND-PREFIX...
    local out=$1
    shift
    "$@" "$SCOPE" run --plugin color --frames 300 --size 160x120 -o "$out" >out 2>err
    local rc=$?
    [ $rc = 1 ] || fail "$out on a full disk exited with $rc: $(cat err)"
    [ "$(wc -l <err)" = 1 ] || fail "$out on a full disk: not one line: $(cat err)"
    says err "$out"
}
mkdir small
if mount -t tmpfs -o size=64k tmpfs small 2>/dev/null; then
    trap 'umount small' EXIT
    for name in x.mp4 x.mkv x.webm x.y4m; do
        full small/$name
        says err "the disk is full"
        [ -z "$(ls small)" ] || fail "left on the full disk: $(ls small)"
    done
    full "small/%04d.png"
    says err "the disk is full"
    [ -z "$(ls small/*.part 2>/dev/null)" ] || fail "half a picture is left"
else
    echo "note: no tmpfs may be mounted here; only /dev/full is tried"
fi

# plugins
"$SRC/tests/abi/build.sh" . fails_in_init fails_in_process loses_device || fail "cannot build"
complains 1 "no model" "$SCOPE" run --plugin ./fails_in_init.so c.mp4 -o x.mp4
clean
run 1 "$SCOPE" run --plugin ./fails_in_process.so c.mp4 -o x.mp4
says err "10 times in a row" "cannot do that"
clean
run 1 "$SCOPE" run --plugin ./loses_device.so c.mp4 -o x.mp4
says err "device"
clean
exit 0
