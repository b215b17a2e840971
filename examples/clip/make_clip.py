"""Make clip.mp4: 3.5 s of slow pans and zooms over four photographs, with cross-fades.

    python3 make_clip.py [clip.mp4]     needs numpy, pillow, scikit-image and GStreamer's gst-launch-1.0

The photographs come with scikit-image; ATTRIBUTION.md names their authors and licences.
"""
import subprocess
import sys

import numpy as np
from PIL import Image
from skimage import data

SIZE, FPS, SHOT, FADE = 512, 24, 27, 8  # pixels, frames a second, frames a shot, frames of a fade

# Each shot: a picture and two squares, (centre x, centre y, side) as parts of its shorter side.
SHOTS = [
    (data.astronaut, (0.50, 0.45, 0.90), (0.44, 0.30, 0.62)),
    (data.coffee, (0.55, 0.50, 0.80), (0.85, 0.52, 0.95)),
    (data.chelsea, (0.60, 0.50, 0.98), (0.76, 0.42, 0.66)),
    (data.rocket, (0.75, 0.60, 0.70), (0.75, 0.45, 0.90)),
]


def ease(t):
    return t * t * (3 - 2 * t)


def view(picture, a, b, t):
    """The square between a and b at time t, as floats."""
    unit = min(picture.size)
    x, y, side = (unit * (p + (q - p) * ease(t)) for p, q in zip(a, b))
    x = min(max(x, side / 2), picture.width - side / 2)
    y = min(max(y, side / 2), picture.height - side / 2)
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    return np.asarray(picture.resize((SIZE, SIZE), Image.LANCZOS, box=box), np.float32)


def frames():
    shots = [(Image.fromarray(load()[..., :3]), a, b) for load, a, b in SHOTS]
    step = SHOT - FADE
    for n in range(step * len(shots) + FADE):
        out, total = 0.0, 0.0
        for i, (picture, a, b) in enumerate(shots):
            k = n - i * step
            if 0 <= k < SHOT:
                weight = min(1.0, (k + 1) / (FADE + 1) if i else 1.0)
                if i < len(shots) - 1:
                    weight = min(weight, (SHOT - k) / (FADE + 1))
                out = out + weight * view(picture, a, b, k / (SHOT - 1))
                total += weight
        yield np.clip(out / total + 0.5, 0, 255).astype(np.uint8)


def main():
    target = sys.argv[1] if len(sys.argv) > 1 else "clip.mp4"
    line = (f"fdsrc ! rawvideoparse format=rgb width={SIZE} height={SIZE} framerate={FPS}/1 ! "
            "videoconvert ! video/x-raw,format=I420 ! "
            "x264enc speed-preset=veryslow pass=qual quantizer=23 ! video/x-h264,profile=high ! "
            f"h264parse ! mp4mux ! filesink location={target}")
    encoder = subprocess.Popen(["gst-launch-1.0", "-q", *line.split()], stdin=subprocess.PIPE)
    for frame in frames():
        encoder.stdin.write(frame.tobytes())
    encoder.stdin.close()
    sys.exit(encoder.wait())


if __name__ == "__main__":
    main()
