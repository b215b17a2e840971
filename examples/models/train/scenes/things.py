"""Painters of what people make or put on a table: fruit, houses, boats, balloons, solids."""

from functools import partial

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
    row_tone,
    step,
    stroke,
    turned,
)
from .settings import crown, meadow, sky, table, water


def fruit(rng, size):
    image, light = table(rng, size, rng.uniform(0.5, 0.68)), light_from(rng)
    centre = np.array([rng.uniform(0.4, 0.6), rng.uniform(0.55, 0.65)])
    reach = rng.uniform(0.27, 0.38)
    dim(image, centre + [-0.3 * light[0], 0.6 * reach], [reach * 1.3, 0.14], 0.75)
    speckle = 0.8 + 0.4 * fractal(rng, size, (20, 20), 4, 0.8)
    for row, count in enumerate((2, 3, 4)):
        for index in rng.permutation(count):
            kind = pick(rng, ["red", "green", "orange", "yellow", "purple"])
            spot = centre + [
                (index - (count - 1) / 2) * reach * 0.5,
                (row - 2) * reach * 0.27 - 0.02,
            ]
            spot, radius = spot + rng.normal(0, 0.008, 2), reach * rng.uniform(0.26, 0.33)
            dim(image, spot + [0, radius * 0.3], [radius * 1.2] * 2, 0.4)
            radii = [
                radius * (1.25 if kind == "yellow" else 1),
                radius * (0.85 if kind == "yellow" else 0.98),
            ]
            ball(image, spot, radii, hue_of(rng, kind, 0.03) * turned(speckle, row + index), light)
            top = spot - [0, radius * 0.85]
            if kind in ("red", "green"):
                paint(
                    image,
                    [
                        (
                            stroke(curve([top, top - [0, 0.03], top + [0.02, -0.05]]), 0.008, 0.01),
                            hsv(0.08, 0.6, 0.25),
                        )
                    ],
                )
    glaze = hue_of(rng, pick(rng, ["white", "blue", "green", "orange"]), 0.04) * rng.uniform(0.6, 1)
    bowl = np.concatenate(
        [
            oval(centre, (reach, 0.16 * reach), 0, np.pi, 0),
            oval(centre, (reach, reach * 0.7), 0, 0, np.pi),
        ]
    )
    lit = roundness(grid(size), centre, [reach * 1.05, reach * 0.9], light)
    y = grid(size)[1]
    pattern = 1 - float(rng.choice([0, 0.4])) * step(0.3, 0.6, np.sin((y - centre[1]) / reach * 30))
    paint(
        image, [(bowl, glaze)], (0.2 + 0.95 * lit + 0.4 * lit**30) * pattern * (0.5 + 0.5 * speckle)
    )
    paint(image, [(stroke(oval(centre, (reach, 0.16 * reach), 0, np.pi, 0), 0.012, 0.012), glaze)])
    return image, "a bowl of fruit"


def house(rng, size):
    image, name = sky(rng, size)
    level, hue = rng.uniform(0.6, 0.72), rng.uniform(0.2, 0.33)
    grass = meadow(image, rng, level, hue)
    for _ in range(int(rng.integers(1, 4))):
        crown(image, rng, (rng.random(), level - 0.06), rng.uniform(0.1, 0.2), grass * 0.7)
    at, scale = np.array([rng.uniform(0.3, 0.5), rng.uniform(0.76, 0.86)]), rng.uniform(0.28, 0.4)
    turn = rng.choice([-1, 1])
    wall = hue_of(rng, pick(rng, ["white", "yellow", "orange", "blue", "pink"])) * rng.uniform(
        0.6, 1
    )
    roof = hsv(rng.uniform(-0.03, 0.1), rng.uniform(0.2, 0.7), rng.uniform(0.25, 0.6))
    depth = rng.uniform(0.7, 1.1)
    dim(image, at + [0.1, 0.02], [scale * 1.6, 0.08], 0.6)
    corner = at + [0.12 - 0.12 * turn, 0]
    to = partial(place, centre=corner, scale=(turn * scale, -scale))
    glass, frame = hsv(*pick(rng, [(0.58, 0.4, 0.3), (0.13, 0.6, 0.95)])), mix(wall, 1, 0.6)
    shapes = [
        ([(0, 0), (0, 0.75), (0.35, 1.2), (0.7, 0.75), (0.7, 0)], wall),
        ([(0.7, 0), (0.7, 0.75), (0.7 + depth, 0.7), (0.7 + depth, 0.04)], wall * 0.7),
        ([(0.9, 0.9), (0.9, 1.4), (1.05, 1.4), (1.05, 0.9)], roof * 0.8),
        ([(0.3, 1.24), (0.78, 0.66), (0.78 + depth, 0.62), (0.33 + depth, 1.17)], roof),
        (stroke([(-0.08, 0.66), (0.34, 1.22)], 0.06, 0.06), roof * 0.7),
    ]
    boxes = [(0.12, 0.4, 0.14, 0.2), (0.44, 0.4, 0.14, 0.2), (0.28, 0.75, 0.14, 0.18)]
    boxes += [(0.8 + index * 0.3, 0.3, 0.15, 0.22) for index in range(int(depth / 0.32))]
    for left, low, width, height in boxes:
        for grow, tone in ((0.025, frame), (0.0, glass)):
            shapes.append(
                (
                    [
                        (left - grow, low - grow),
                        (left + width + grow, low - grow),
                        (left + width + grow, low + height + grow),
                        (left - grow, low + height + grow),
                    ],
                    tone,
                )
            )
        shapes.append(
            (
                stroke([(left + width / 2, low), (left + width / 2, low + height)], 0.015, 0.015),
                frame,
            )
        )
    shapes += [([(0.27, 0), (0.27, 0.32), (0.43, 0.32), (0.43, 0)], roof * 0.6)]
    courses = fractal(rng, size, (50, 12), 2, 0.8)
    paint(
        image,
        [(to(points), tone) for points, tone in shapes],
        0.7 + 0.3 * courses + 0.3 * fractal(rng, size, (3, 3), 5),
    )
    crown(image, rng, (rng.random(), 0.9), rng.uniform(0.08, 0.16), grass * 0.9)
    return image, f"a house under a {name} sky"


def boat(rng, size):
    image, name = sky(rng, size)
    level, x = rng.uniform(0.55, 0.7), grid(size)[0]
    if rng.random() < 0.5:
        haze = row_tone(image, int(level * size))
        land(image, level - 0.02 - 0.05 * np.abs(ridge(rng, size, 3)), haze * rng.uniform(0.5, 0.8))
    sail = hue_of(rng, pick(rng, ["white", "white", "white", "red", "orange"]))
    hull = hsv(rng.random(), 0.5, rng.uniform(0.15, 0.7))
    for scale in [rng.uniform(0.03, 0.08)] * int(rng.integers(0, 2)) + [rng.uniform(0.2, 0.36)]:
        at, turn = (rng.uniform(0.3, 0.7), level), rng.choice([-1, 1])
        to = partial(place, centre=at, scale=(turn * scale, -scale))
        cloth = 0.75 + 0.3 * fractal(rng, size, (2, 6), 4) + 0.15 * np.sin(60 * x)
        shapes = [
            (stroke([(0, 0.1), (0, 1.75)], 0.04, 0.025), hsv(0.08, 0.5, 0.25)),
            (np.concatenate([curve([(0.05, 1.7), (0.5, 0.9), (0.95, 0.35)]), [(0.05, 0.3)]]), sail),
            (
                curves(
                    [(-0.06, 1.5), (-0.25, 0.8), (-0.75, 0.3)],
                    [(-0.75, 0.3), (-0.3, 0.4), (-0.06, 0.35)],
                ),
                sail * 0.8,
            ),
            (
                np.concatenate(
                    [
                        curve([(-1, 0.22), (-0.8, -0.05), (-0.5, -0.1)]),
                        curve([(0.7, -0.1), (1, 0), (1.1, 0.25)]),
                        [(0, 0.17)],
                    ]
                ),
                hull,
            ),
            (stroke(curve([(-1, 0.21), (0, 0.12), (1.1, 0.24)]), 0.05, 0.05), mix(hull, 1, 0.6)),
        ]
        paint(image, [(to(points), tone) for points, tone in shapes], cloth)
    water(image, rng, level + 0.012, hsv(rng.uniform(0.48, 0.62), 0.6, rng.uniform(0.15, 0.45)))
    return image, f"a sailing boat under a {name} sky"


def balloon_cloth(rng, centre, radius, light, haze):
    """The shade of one balloon: gores or rings of two colours, rounded, paler when small."""
    first, second = (hue_of(rng, pick(rng, list(HUES)), 0.04) for _ in range(2))
    rings, count, bands = rng.random() < 0.3, int(rng.integers(4, 9)), rng.uniform(3, 9)

    def shade(x, y):
        u, v = apart((x, y), centre, (radius, radius))
        across = np.clip(u / np.sqrt(np.clip(1 - v * v / 2.25, 0.03, 1)), -1, 1)
        wave = np.sin(v * bands) if rings else np.sin(np.arcsin(across) * count + 0.7)
        lit = roundness((x, y), centre, (radius * 1.03, radius * 1.5), light)
        colour = mix(first, second, step(-0.2, 0.2, wave)) * (0.35 + 0.8 * lit)
        return mix(colour, haze, max(0.0, 0.35 - 2 * float(radius)))

    return shade


def balloons(rng, size):
    image, name = sky(rng, size)
    meadow(image, rng, rng.uniform(0.82, 0.95), rng.uniform(0.1, 0.33), 0.45)
    light, haze = light_from(rng), row_tone(image, size // 2)
    for radius in np.sort(rng.uniform(0.035, 0.2, int(rng.integers(2, 7)))):
        centre = rng.uniform(0.12, 0.88, 2) * [1, 0.75]
        skin = np.concatenate(
            [
                oval(centre, (radius, radius * 1.05), 0, np.pi, 2 * np.pi),
                curve(
                    [
                        centre + [radius, 0],
                        centre + [radius * 0.9, radius * 0.7],
                        centre + [radius * 0.25, radius * 1.4],
                    ]
                ),
                curve(
                    [
                        centre + [-radius * 0.25, radius * 1.4],
                        centre + [-radius * 0.9, radius * 0.7],
                        centre - [radius, 0],
                    ]
                ),
            ]
        )
        basket, cords = centre + [0, radius * 1.85], hsv(0.08, 0.5, 0.25)
        ropes = [
            (
                stroke(
                    [centre + [s * radius * 0.22, radius * 1.4], basket + [s * radius * 0.13, 0]],
                    0.004,
                    0.004,
                ),
                cords,
            )
            for s in (-1, 1)
        ]
        paint(
            image,
            ropes
            + [
                (
                    basket + np.array([(-1, -0.6), (1, -0.6), (0.8, 1), (-0.8, 1)]) * radius * 0.16,
                    cords * 1.5,
                )
            ],
        )
        paint(image, [(skin, hsv(0, 0, 1))], balloon_cloth(rng, centre, radius, light, haze))
    return image, f"balloons in a {name} sky"


def solids(rng, size):
    image, light, level = table(rng, size, rng.uniform(0.3, 0.55)), light_from(rng), 0.55
    rough = 0.85 + 0.3 * fractal(rng, size, (5, 5), 6, 0.7)
    for foot in np.sort(rng.uniform(level, 0.92, int(rng.integers(3, 7)))):
        at, side = np.array([rng.uniform(0.12, 0.88), foot]), rng.uniform(0.06, 0.17) * (0.4 + foot)
        colour = hue_of(rng, pick(rng, list(HUES)), 0.05)
        dim(image, at - [light[0] * side * 1.5, 0], [side * 1.9, side * 0.5], 0.75)
        kind, x = pick(rng, ["ball", "cube", "cone", "cylinder"]), grid(size)[0]
        if kind == "ball":
            ball(
                image, at - [0, side * 0.8], [side] * 2, colour * rough, light, rng.uniform(0, 0.6)
            )
        elif kind == "cube":
            a = rng.uniform(0.3, 1.2)
            p = side * np.array([np.cos(a), -0.35 * np.sin(a)])
            q = side * np.array([-np.sin(a), -0.35 * np.cos(a)])
            up = np.array([0, -1.3 * side])
            low = at + [0, 0.25 * side]
            faces = [
                ([low, low + p * 1.3, low + p * 1.3 + up, low + up], 0.65 + 0.5 * light[0]),
                ([low, low + q * 1.3, low + q * 1.3 + up, low + up], 0.65 - 0.5 * light[0]),
                ([low + up, low + up + p * 1.3, low + up + (p + q) * 1.3, low + up + q * 1.3], 1.1),
            ]
            paint(image, [(points, colour * value) for points, value in faces], rough)
        else:
            tall = side * rng.uniform(1.4, 2.4)
            base = oval(at, (side * 0.8, side * 0.28), 0, 0, np.pi)
            top = (
                [at - [0, tall]]
                if kind == "cone"
                else oval(at - [0, tall], (side * 0.8, side * 0.28), 0, np.pi, 0)
            )
            u = np.clip((x - at[0]) / (side * 0.8), -1, 1)
            paint(
                image,
                [(np.concatenate([base, top]), colour)],
                (0.3 + 0.8 * np.clip(u * light[0] + np.sqrt(1 - u * u) * light[2], 0, 1)) * rough,
            )
            if kind == "cylinder":
                paint(image, [(oval(at - [0, tall], (side * 0.8, side * 0.28)), colour)], rough)
    return image, "geometric shapes on a table"
