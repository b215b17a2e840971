"""Painters of flowers, people, cats and fish."""

from functools import partial

import cv2
import numpy as np

from .brushes import (
    HUES,
    apart,
    ball,
    curve,
    curves,
    dim,
    fractal,
    grid,
    hsv,
    hue_of,
    land,
    light_from,
    mix,
    oval,
    paint,
    pick,
    place,
    ridge,
    roundness,
    soften,
    step,
    stroke,
)
from .settings import backdrop

HAIR = {
    "black": (0.08, 0.3, 0.12),
    "brown": (0.07, 0.6, 0.32),
    "blond": (0.12, 0.5, 0.85),
    "red": (0.04, 0.75, 0.6),
    "grey": (0.1, 0.05, 0.68),
}
FUR = {
    "grey": (0.6, 0.08, 0.55),
    "orange": (0.07, 0.7, 0.85),
    "black": (0.6, 0.1, 0.16),
    "white": (0.1, 0.05, 0.93),
    "brown": (0.07, 0.45, 0.42),
}


def flower(rng, size):
    name = pick(rng, [h for h in HUES if h != "green"])
    image = backdrop(rng, size, 0.6) * hsv(rng.uniform(0.25, 0.4), 0.35, 0.85)
    x, y = grid(size)
    centre, radius = rng.uniform(0.35, 0.65, 2) * [1, 0.85], rng.uniform(0.2, 0.36)
    stem, foot = hsv(0.29, 0.65, 0.4), (rng.uniform(0.3, 0.7), 1.05)
    bend = (foot[0], centre[1] + 0.2)
    shapes = [(stroke(curve([foot, bend, centre]), 0.03, 0.02), stem)]
    for side in (-1, 1):
        tip = np.array(bend) + [side * rng.uniform(0.15, 0.35), rng.uniform(0.0, 0.25)]
        leaf = curves(
            [foot, (bend[0] + side * 0.2, 0.95), tip], [tip, (bend[0] + side * 0.05, 0.75), foot]
        )
        shapes.append((leaf, stem * rng.uniform(0.8, 1.3)))
    paint(image, shapes, 0.7 + 0.6 * fractal(rng, size, (6, 20), 3))
    colour, count = hue_of(rng, name), int(rng.integers(5, 17))
    away = np.hypot(x - centre[0], y - centre[1]) / radius
    turn = np.arctan2(y - centre[1], x - centre[0])
    streak = 0.9 + 0.12 * np.sin(turn * count * rng.integers(5, 9) + 3 * away) * np.clip(away, 0, 1)
    squash, width = rng.uniform(0.65, 1), rng.uniform(0.8, 1.3) * 2.4 / count
    dim(image, centre + [0.03, 0.06], [radius * 1.1] * 2, 0.35)
    for ring in range(int(rng.integers(1, 4))):
        length, first, petals = radius * (1 - 0.25 * ring), rng.random() * 7, []
        for angle in first + np.arange(count) * 2 * np.pi / count + rng.normal(0, 0.06, count):
            u = np.linspace(0, 1, 16)
            half = np.sin(np.pi * u ** rng.uniform(1.1, 1.9)) * width / 2
            petal = np.concatenate([np.stack([u, half], 1), np.stack([u, -half], 1)[::-1]])
            petal = place(petal, (0, 0), length, angle) * [1, squash] + centre
            tone = colour * rng.uniform(0.7, 1.1)
            petals += [(place(petal - centre, centre, 1.03), tone * 0.6), (petal, tone)]
        paint(image, petals, streak * (0.5 + 0.6 * np.clip(away / (1 - 0.2 * ring), 0, 1)))
    core, middle = radius * rng.uniform(0.15, 0.32), hsv(rng.uniform(0.07, 0.15), 0.8, 0.75)
    ball(
        image,
        centre,
        [core, core * squash],
        middle * (0.5 + fractal(rng, size, (45, 45), 2)),
        light_from(rng),
        0,
    )
    return image, f"a {name} flower".replace("a orange", "an orange")


def portrait(rng, size):
    image, light = backdrop(rng, size), light_from(rng)
    centre = np.array([rng.uniform(0.4, 0.6), rng.uniform(0.38, 0.46)])
    scale = rng.uniform(0.2, 0.27)
    tilt, look, long = rng.normal(0, 0.07), rng.uniform(-0.2, 0.2), rng.random() < 0.5
    skin = hsv(rng.uniform(0.04, 0.075), rng.uniform(0.35, 0.6), rng.uniform(0.45, 0.95))
    name = pick(rng, list(HAIR))
    hair = hsv(*HAIR[name])
    at = partial(place, centre=centre, scale=scale, angle=tilt)
    strand = 0.55 + 0.8 * fractal(rng, size, (4, 50), 3, 0.8)
    reach, wide = (2.0, 1.12) if long else (0.4, 0.95)
    back = [
        (-wide, reach),
        (-wide * 1.05, 0),
        (-0.7, -1.05),
        (0, -1.36),
        (0.7, -1.05),
        (wide * 1.05, 0),
        (wide, reach),
    ]
    paint(
        image,
        [(np.concatenate([curve(at(back[i : i + 3])) for i in (0, 2, 4)]), hair * 0.8)],
        strand,
    )
    bust(image, rng, centre, scale, skin, light)
    lit = roundness(grid(size), centre, [0.95 * scale, 1.4 * scale], light)
    pores = (0.42 + 0.72 * lit) * (0.94 + 0.12 * fractal(rng, size, (12, 12), 4, 0.8))
    jaw = rng.uniform(0.42, 0.6)
    face = np.concatenate(
        [
            oval((0, -0.1), (0.82, 1.02), 0, np.pi, 2 * np.pi),
            curve([(0.82, -0.1), (0.8, 0.75), (jaw / 2, 1.1)]),
            curve([(jaw / 2, 1.1), (0, 1.22), (-jaw / 2, 1.1)]),
            curve([(-jaw / 2, 1.1), (-0.8, 0.75), (-0.82, -0.1)]),
        ]
    )
    ears = (
        [] if long else [(at(oval((s * 0.84, 0.05), (0.12, 0.24))), skin * 0.85) for s in (-1, 1)]
    )
    paint(image, ears + [(at(face), skin)], pores)
    features(image, rng, at, look, skin, hair, pores)
    part = rng.uniform(-0.5, 0.5)
    fringe = np.concatenate(
        [
            oval((0, -0.15), (0.9, 1.12), 0, np.pi, 2 * np.pi),
            curve([(0.9, 0.1), (0.7, -0.6), (part, -0.78)]),
            curve([(part, -0.78), (-0.7, -0.6), (-0.9, 0.1)]),
        ]
    )
    paint(image, [(at(fringe), hair)], strand * (0.6 + 0.6 * lit))
    return image, f"a portrait, {name} hair"


def bust(image, rng, centre, scale, skin, light):
    """Shoulders in a woven cloth, and the neck."""
    size = image.shape[1]
    cloth = hue_of(rng, pick(rng, list(HUES)), 0.05) * rng.uniform(0.3, 0.9)
    torso = curves([(-0.45, 1.4), (-1.7, 1.5), (-2.1, 4)], [(2.1, 4), (1.7, 1.5), (0.45, 1.4)])
    weave = 0.65 + 0.7 * fractal(rng, size, (5, 5), 6, 0.8)
    round_torso = roundness(grid(size), centre + [0, 3 * scale], [2.2 * scale] * 2, light)
    paint(image, [(place(torso, centre, scale), cloth)], weave * (0.4 + 0.8 * round_torso))
    neck = [(-0.45, 0.6), (-0.5, 1.45), (0, 1.8), (0.5, 1.45), (0.45, 0.6)]
    paint(image, [(place(neck, centre, scale), skin * 0.65)])


def features(image, rng, at, look, skin, hair, light):
    """Eyes, brows, nose and mouth, in face coordinates that `at` puts on the picture."""
    iris = hsv(pick(rng, [0.07, 0.3, 0.58]), 0.5, rng.uniform(0.25, 0.6))
    lip, smile = mix(skin, hsv(0.98, 0.7, 0.6), rng.uniform(0.3, 0.8)), rng.uniform(-0.05, 0.14)
    opening, shapes = rng.uniform(0.08, 0.12), []
    for side in (-1, 1):
        eye = look + side * 0.36
        gaze = eye + look * 0.15
        lid = curve([(eye - 0.2, 0.02), (eye, -2.2 * opening), (eye + 0.2, 0.0)])
        low = curve([(eye + 0.2, 0.0), (eye, 1.6 * opening), (eye - 0.2, 0.02)])
        brow = curve([(eye - 0.25, -0.24), (eye, -0.38), (eye + 0.25, -0.24)])
        shapes += [
            (oval((eye, -0.06), (0.25, 0.17)), skin * 0.82),
            (np.concatenate([lid, low]), hsv(0.1, 0.05, 0.95)),
            (oval((gaze, -0.01), (0.085, 0.095)), iris),
            (oval((gaze, -0.01), (0.04, 0.045)), iris * 0.1),
            (oval((gaze + 0.03, -0.04), (0.02, 0.02)), hsv(0, 0, 1)),
            (stroke(lid, 0.04, 0.05), skin * 0.25),
            (stroke(brow, 0.09, 0.05), mix(hair, skin, 0.15) * 0.7),
        ]
    nose = 1.25 * look
    shapes += [
        (
            [(look * 0.9 + 0.03, -0.1), (nose + 0.16, 0.4), (nose, 0.46), (nose + 0.02, 0.3)],
            skin * 0.8,
        ),
        (
            stroke(curve([(nose - 0.15, 0.4), (nose, 0.5), (nose + 0.15, 0.4)]), 0.05, 0.05),
            skin * 0.62,
        ),
    ]
    left, right = (look - 0.28, 0.74 - smile), (look + 0.28, 0.74 - smile)
    line = curve([left, (look, 0.76 + smile), right])
    shapes += [
        (np.concatenate([curve([left, (look, 0.56), right]), line[::-1]]), lip * 0.85),
        (np.concatenate([line, curve([right, (look, 0.98 + smile), left])]), lip),
        (stroke(line, 0.03, 0.03), lip * 0.4),
    ]
    paint(image, [(at(points), tone) for points, tone in shapes], 0.25 + 0.75 * light)


def cat(rng, size):
    image, light = backdrop(rng, size), light_from(rng)
    name = pick(rng, list(FUR))
    fur = hsv(*FUR[name])
    centre = np.array([rng.uniform(0.38, 0.62), rng.uniform(0.36, 0.5)])
    scale = rng.uniform(0.2, 0.29)
    tilt, look = rng.normal(0, 0.12), rng.uniform(-0.12, 0.12)
    at = partial(place, centre=centre, scale=scale, angle=tilt)
    x, y = grid(size)
    turn = np.arctan2(y - centre[1] - 0.1 * scale, x - centre[0])
    away = np.hypot(x - centre[0], y - centre[1]) / scale
    # Noise looked up in polar coordinates runs along the radius, as hair around a nose does.
    radial = [f.astype("f4") for f in (away * size / 3, (turn / 6.3 + 0.5) * (size - 1))]
    wisps = cv2.remap(fractal(rng, size, (90, 8), 2, 0.8), *radial, cv2.INTER_LINEAR)
    bands = np.sin(away * 14 + 6 * np.abs(np.sin(turn)) + 3 * wisps) * float(rng.choice([0, 0.3]))
    coat = (0.55 + 0.75 * wisps) * (1 - np.clip(bands, 0, 1) * step(0.3, 0.8, away))
    body = curves([(-0.6, 0.5), (-1.5, 1.5), (-1.4, 4)], [(1.4, 4), (1.5, 1.5), (0.6, 0.5)])
    paint(
        image, [(place(body, centre, scale), fur * 0.8)], coat * mix(0.8, 1.1, soften(wisps, 0.05))
    )
    lit = roundness(grid(size), centre, [1.3 * scale, 1.2 * scale], light)
    head = [oval((0, 0), (1, 0.85))]
    for side in (-1, 1):
        head += [
            curves(
                [(side * 0.95, -0.1), (side * 1.0, -0.8), (side * 0.85, -1.25)],
                [(side * 0.85, -1.25), (side * 0.45, -1.0), (side * 0.2, -0.6)],
            )
        ]
    paint(image, [(at(part), fur) for part in head[1:] + head[:1]], coat * (0.5 + 0.7 * lit))
    cat_face(image, rng, at, look, fur, coat * (0.6 + 0.5 * lit))
    return image, f"a cat with {name} fur"


def cat_face(image, rng, at, look, fur, light):
    """Inner ears, cheeks, eyes, whiskers and nose, in face coordinates as for a portrait."""
    pink = hsv(0.99, 0.35, 0.75)
    eye = hsv(pick(rng, [0.13, 0.22, 0.3, 0.55]), 0.65, rng.uniform(0.6, 0.9))
    pale = mix(fur, 0.95, 0.45)
    inner = [
        ([(s * 0.86, -0.4), (s * 0.83, -1.08), (s * 0.42, -0.68)], mix(pink, fur, 0.4))
        for s in (-1, 1)
    ]
    cheeks = [(oval((look + s * 0.2, 0.42), (0.27, 0.22)), pale) for s in (-1, 1)]
    paint(image, [(at(points), tone) for points, tone in inner + cheeks], light)
    shapes, slit = [], rng.uniform(0.03, 0.13)
    for side in (-1, 1):
        spot = (look + side * 0.42, -0.12)
        shapes += [
            (oval(spot, (0.27, 0.22), side * -0.2), fur * 0.35),
            (oval(spot, (0.23, 0.19), side * -0.2), eye),
            (oval(spot, (slit, 0.17)), eye * 0.08),
            (oval((spot[0] + 0.07, -0.19), (0.04, 0.04)), hsv(0, 0, 1)),
        ]
        for _ in range(5):
            tip = (look + side * rng.uniform(1.1, 1.5), rng.uniform(0.1, 0.7))
            shapes.append(
                (
                    stroke(
                        curve([(look + side * 0.25, 0.42), (side * 0.8, 0.3), tip]), 0.022, 0.006
                    ),
                    hsv(0, 0, 0.92),
                )
            )
        shapes.append(
            (
                stroke(curve([(look, 0.36), (look, 0.55), (look + side * 0.25, 0.5)]), 0.03, 0.02),
                fur * 0.25,
            )
        )
    shapes.append((curve([(look - 0.13, 0.2), (look, 0.6), (look + 0.13, 0.2)]), pink))
    paint(image, [(at(points), tone) for points, tone in shapes])


def fish(rng, size):
    x, y = grid(size)
    deep = hsv(rng.uniform(0.47, 0.63), rng.uniform(0.6, 0.9), rng.uniform(0.15, 0.4))
    image = mix(hsv(rng.uniform(0.47, 0.55), 0.4, 0.9), deep, np.clip(y * 1.2, 0, 1) ** 0.6)
    rays = fractal(rng, size, (1, 14), 3)
    image += (
        0.35
        * np.clip(1 - y, 0, 1)
        * step(0.5, 0.9, cv2.remap(rays, ((x - 0.5) / (1 + y) + 0.5) * size, y * size, 1))
    )
    sand = hsv(0.11, 0.4, 0.75) * (0.5 + 0.7 * fractal(rng, size, (12, 12), 5, 0.8))
    land(image, rng.uniform(0.82, 1.05) + 0.04 * ridge(rng, size, 3), mix(sand, deep, 0.45))
    weeds = []
    for _ in range(int(rng.integers(0, 14))):
        foot, tall = rng.uniform(0, 1), rng.uniform(0.1, 0.45)
        weeds.append(
            (
                stroke(
                    curve(
                        [
                            (foot, 1.02),
                            (foot + rng.normal(0, 0.1), 1 - tall / 2),
                            (foot + rng.normal(0, 0.06), 1 - tall),
                        ]
                    ),
                    0.03,
                    0.004,
                ),
                mix(hsv(rng.uniform(0.2, 0.42), 0.7, 0.4), deep, 0.4),
            )
        )
    paint(image, weeds, 0.6 + 0.7 * fractal(rng, size, (10, 10), 3))
    name, count = pick(rng, list(HUES)), int(rng.integers(1, 5))
    second, stripes = hue_of(rng, pick(rng, list(HUES))), float(rng.choice([0, 0.8]))
    for length in np.sort(rng.uniform(0.08, 0.3 if count < 3 else 0.18, count)):
        one_fish(
            image,
            rng,
            rng.uniform(0.25, 0.75, 2) * [1, 1.05],
            length,
            hue_of(rng, name),
            second,
            stripes,
        )
    bubbles = rng.random((int(rng.integers(0, 12)), 2))
    for spot in bubbles:
        ball(
            image,
            spot,
            [rng.uniform(0.006, 0.018)] * 2,
            mix(deep, 1, 0.45),
            light_from(rng),
            0.5,
            0.5,
        )
    return image, f"{['one', 'two', 'three', 'four'][count - 1]} {name} fish"


def one_fish(image, rng, centre, length, colour, second, stripes):
    """One fish; its shades are worked out in its own axes, nose at (1, 0)."""
    turn, tall, tilt = int(rng.choice([-1, 1])), rng.uniform(0.35, 0.6), rng.normal(0, 0.15)
    to = partial(place, centre=centre, scale=(turn * length, length), angle=tilt)

    def own(x, y):
        u, v = apart((x, y), centre, (turn * length, length))
        cosine, sine = float(np.cos(tilt)), float(np.sin(tilt))
        return u * cosine + v * sine, v * cosine - u * sine

    def ribs(x, y):
        along, across = own(x, y)
        return 0.65 + 0.4 * np.abs(np.sin(along * 14 + across * 22))

    def skin(x, y):
        along, across = own(x, y)
        scales = np.sin((along + across) * 40) * np.sin((along - across) * 40) * (along < 0.45)
        bands = step(0.2, 0.6, np.sin(along * 7 + 3 * across**2)) * stripes
        light = np.clip(0.85 - across / tall * 0.55, 0.3, 1.4) * (0.92 + 0.1 * scales)
        return mix(colour, second, bands) * light

    fins = [
        curves([(-0.8, 0), (-1.2, -0.2), (-1.45, -0.5)], [(-1.45, -0.5), (-1.2, 0), (-1.45, 0.5)]),
        curve([(0.4, -tall * 0.7), (-0.1, -tall * 2.6), (-0.7, -tall * 0.3)]),
        curve([(0.2, tall * 0.6), (-0.3, tall * 2.0), (-0.5, tall * 0.4)]),
    ]
    paint(image, [(to(fin), mix(colour, second, 0.4)) for fin in fins], ribs)
    body = curves(
        [(-0.95, 0.06), (-0.2, tall * 1.9), (1, 0.05)],
        [(1, 0.05), (-0.2, -tall * 1.9), (-0.95, -0.06)],
    )
    paint(image, [(to(body), hsv(0, 0, 1))], skin)
    eye = (0.66, -0.08)
    paint(
        image,
        [
            (to(curve([(0.15, 0.1), (-0.1, 0.35), (-0.25, 0.08)])), mix(colour, second, 0.5)),
            (
                to(stroke(curve([(0.45, -0.22), (0.35, 0.05), (0.45, 0.25)]), 0.03, 0.03)),
                colour * 0.5,
            ),
            (to(oval(eye, (0.1, 0.1))), hsv(0.12, 0.1, 0.95)),
            (to(oval(eye, (0.055, 0.055))), hsv(0, 0, 0.05)),
        ],
    )
