"""Where a scene takes place: skies, water, meadows, tables, what is out of focus."""

import cv2
import numpy as np

from .brushes import (
    cover,
    fractal,
    grid,
    hsv,
    land,
    mix,
    oval,
    paint,
    pick,
    place,
    receding,
    relief,
    ridge,
    row_tone,
    soften,
    step,
)

SKIES = {
    "blue": ((0.16, 0.38, 0.80), (0.72, 0.86, 0.97)),
    "red": ((0.36, 0.09, 0.16), (0.98, 0.42, 0.22)),
    "golden": ((0.60, 0.47, 0.40), (1.00, 0.82, 0.45)),
    "grey": ((0.46, 0.49, 0.54), (0.80, 0.82, 0.84)),
    "purple": ((0.17, 0.11, 0.38), (0.74, 0.48, 0.70)),
    "pink": ((0.52, 0.42, 0.66), (1.00, 0.74, 0.74)),
}


def sky(rng, size, name=None):
    """A sky with a glow and clouds; returns it and the name of its colour."""
    name = name or pick(rng, list(SKIES))
    top, bottom = (np.array(c, np.float32).reshape(3, 1, 1) for c in SKIES[name])
    x, y = grid(size)
    image = mix(top, bottom, np.clip(y * rng.uniform(1.0, 1.7), 0, 1) ** rng.uniform(0.7, 1.3))
    away = np.hypot(x - rng.uniform(0, 1), y - rng.uniform(0.1, 0.6))
    image += (0.35 * rng.random() * np.exp(-4 * away)) * mix(bottom, 1.0, 0.5)
    noise = fractal(rng, size, (rng.uniform(3, 7), rng.uniform(1.5, 3)), 6)
    low = rng.uniform(0.4, 0.75)
    thick = step(low, low + rng.uniform(0.15, 0.4), noise) * rng.uniform(0.4, 0.95)
    cover(
        image, thick, mix(bottom, 1.0, 0.45) * mix(0.72, 1.0, relief(soften(noise, 0.01), 5) - 0.5)
    )
    return image, name


def water(image, rng, level, tint):
    """Mirror what is above `level` below it, broken by waves."""
    size = image.shape[1]
    x, y = grid(size)
    waves = receding(fractal(rng, size, (22, 5), 4, 0.7), level) - 0.5
    chop = rng.uniform(0.05, 0.35)
    rows = np.clip((2 * level - y + waves * chop) * size, 0, level * size)
    columns = (x + waves * chop * 0.3) * size
    mirrored = np.stack(
        [
            cv2.remap(c, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            for c in image
        ]
    )
    near = np.clip((y - level) * 1.3, 0, 0.7)
    colour = mix(mirrored * 0.85, tint, near + 0.12) * (1 + waves * rng.uniform(0.5, 1.3))
    land(image, np.full(size, level, np.float32), colour)


def backdrop(rng, size, saturation=0.4):
    """An out-of-focus background: two tones in soft blotches, with discs of light."""
    hue = rng.random()
    first = hsv(hue, rng.uniform(0, saturation), rng.uniform(0.15, 0.6))
    second = hsv(hue + rng.uniform(-0.15, 0.15), rng.uniform(0, saturation), rng.uniform(0.4, 0.9))
    image = mix(first, second, fractal(rng, size, (2, 2), 3, 0.5))
    if rng.random() < 0.4:
        spots = np.zeros((3, size, size), np.float32)
        at = rng.random((10, 2))
        paint(spots, [(oval(p, [rng.uniform(0.02, 0.07)] * 2), second) for p in at])
        image += 0.35 * np.stack([soften(c, 0.008) for c in spots])
    return image


def table(rng, size, level):
    """A wall and a wooden table top seen from a little above."""
    x, y = grid(size)
    image = hsv(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.2, 0.85)) * (
        0.75 + 0.5 * fractal(rng, size, (3, 3), 6)
    )
    image *= 1.15 - 0.6 * np.hypot(x - rng.random(), y - 0.2)
    wood = hsv(rng.uniform(0.04, 0.11), rng.uniform(0.2, 0.65), rng.uniform(0.3, 0.8))
    land(
        image,
        np.full(size, level, "f4"),
        wood * (0.6 + 0.7 * receding(fractal(rng, size, (60, 3), 4, 0.7), level - 0.2)),
    )
    return image


def meadow(image, rng, level, hue, saturation=0.6):
    """Hills and grass below `level`; returns the colour of the grass."""
    size = image.shape[1]
    haze = row_tone(image, int(level * size) - 2)
    grass = hsv(hue, saturation, rng.uniform(0.3, 0.6))
    noise = fractal(rng, size, (4, 4), 6, 0.7)
    land(image, level - 0.03 + 0.05 * ridge(rng, size, 3, 5), mix(haze, grass * (0.4 + noise), 0.5))
    blades = receding(fractal(rng, size, (30, 30), 4, 0.9), level - 0.1)
    land(
        image,
        level + 0.03 + 0.015 * ridge(rng, size, 2, 3),
        grass * (0.3 + 0.6 * noise + 0.7 * blades),
    )
    return grass


def crown(image, rng, centre, radius, colour, count=40):
    """Foliage: many small leafy clumps, darker below, lit from above."""
    size = image.shape[1]
    spots = rng.normal(0, 0.42, (count, 2)) * [1.0, 0.8]
    spots = spots[np.argsort(-spots[:, 1])]
    tones = rng.uniform(0.65, 1.15, count) * (0.85 - 0.3 * spots[:, 1])
    outlines = place(clumps(rng, spots, (0.12, 0.3), 0.035), centre, radius)
    leaves = list(zip(outlines, (colour * tone for tone in tones)))
    paint(image, leaves, 0.4 + 1.2 * fractal(rng, size, (24, 24), 3, 0.95))


def clumps(rng, spots, radii, rough):
    """A ragged leafy outline around every spot."""
    ring = oval((0, 0), (1, 1))[::3]
    count = len(spots)
    sizes = rng.uniform(*radii, (count, 1, 2))
    return spots[:, None] + ring * sizes + rng.normal(0, rough, (count, len(ring), 2))
