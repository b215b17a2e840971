"""in_sync.py FILE FPS - a recording of the source test:tone, frame by frame: the number that is drawn in each
must be the frame's time, and the ticks of the sound, one a second, must be where the picture says so."""
import array
import subprocess
import sys

WIDTH, HEIGHT, DOT, COLUMNS, PLACES = 640, 360, 12, 4, 6
DIGITS = [0o75557, 0o26227, 0o71747, 0o71717, 0o55711, 0o74717, 0o74757, 0o71111, 0o75757, 0o75717]
path, fps = sys.argv[1], float(sys.argv[2])


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def number(picture):
    value = 0
    for place in range(PLACES):
        bits = 0
        for dot in range(15):
            x = (WIDTH - PLACES * COLUMNS * DOT) // 2 + (place * COLUMNS + dot % 3) * DOT + DOT // 2
            y = (HEIGHT - 5 * DOT) // 2 + dot // 3 * DOT + DOT // 2
            bits = bits << 1 | (picture[y * WIDTH + x] > 128)
        value = value * 10 + DIGITS.index(bits)
    return value


raw = output("ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "gray", "-vsync", "0", "-")
times = [float(t) for t in output("ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time",
                                  "-of", "default=nk=1:nw=1", path).split()]
numbers = [number(raw[at:at + WIDTH * HEIGHT]) for at in range(0, len(raw), WIDTH * HEIGHT)]
assert len(numbers) == len(times), (len(numbers), len(times))
begins = sorted(t - n / fps for t, n in zip(times, numbers))
print(f"{len(times)} frames, numbered {numbers[0]} to {numbers[-1]}, {1000 * (begins[-1] - begins[0]):.3f} ms apart")
assert numbers[-1] - numbers[0] >= 3 * fps, "too short"
assert begins[-1] - begins[0] < 0.002, "frames are not at their times"

sound = array.array("h", output("ffmpeg", "-v", "error", "-i", path, "-f", "s16le", "-ac", "1", "-ar", "48000", "-"))
ticks, last = [], -48000
for i, value in enumerate(sound):
    if abs(value) > 2000:
        if i - last > 20000:
            ticks.append(i / 48000)
        last = i
late = [((t - begins[0] + 0.5) % 1 - 0.5) * 1000 for t in ticks]
print(f"{len(ticks)} ticks, from {min(late):.1f} to {max(late):.1f} ms after the picture")
assert len(ticks) >= 3, "sound is missing"
assert max(abs(x) for x in late) < 25, "sound and picture are apart"
