"""Painters of wide views: mountains, cities, seas, forests, trees, dunes, space."""

import cv2
import numpy as np

from .brushes import (
    ball,
    cover,
    curve,
    dim,
    fractal,
    grid,
    hsv,
    land,
    light_from,
    mix,
    oval,
    paint,
    pick,
    receding,
    relief,
    ridge,
    row_tone,
    soften,
    step,
    stroke,
    turned,
)
from .settings import clumps, meadow, sky, water


def mountains(rng, size):
    image, name = sky(rng, size)
    haze = row_tone(image, int(size * 0.6))
    rock = hsv(rng.uniform(0.05, 0.7), rng.uniform(0.1, 0.4), rng.uniform(0.2, 0.45))
    noise, y = fractal(rng, size, (6, 6), 6, 0.58), grid(size)[1]
    light, count = relief(noise, 8), int(rng.integers(2, 5))
    low = mix(rock, hsv(rng.uniform(0.15, 0.4), rng.uniform(0.2, 0.6), 0.3), 0.8)
    snow_depth = rng.uniform(-0.1, 0.22)
    for index in range(count):
        near = (index + 1) / count
        base = mix(0.36, 0.78, index / count) + rng.uniform(-0.05, 0.05)
        line = base + ridge(rng, size, rng.uniform(1.5, 4)) * mix(0.16, 0.07, near)
        white = step(0.05, -0.05, y - line - snow_depth * (1.2 - near) + (noise - 0.5) * 0.5)
        colour = mix(mix(rock, low, near**2), 0.95, white * (1 - near**3)) * turned(light, index)
        land(
            image, line, mix(haze, colour, mix(0.3, 0.95, near) * np.clip(1.3 - (y - base), 0.4, 1))
        )
    if rng.random() < 0.4:
        water(image, rng, rng.uniform(0.68, 0.8), rock * 0.6)
        return image, f"mountains and a lake, {name} sky"
    return image, f"mountains under a {name} sky"


def city(rng, size):
    x, y = grid(size)
    top = hsv(rng.uniform(0.55, 0.8), rng.uniform(0.4, 0.8), rng.uniform(0.1, 0.35))
    glow = hsv(rng.uniform(-0.1, 0.12), 0.55, rng.uniform(0.4, 0.85))
    image = mix(top, glow, y ** rng.uniform(1.2, 3)) * (0.8 + 0.4 * fractal(rng, size, (5, 2)))
    if rng.random() < 0.4:
        ball(image, rng.uniform(0.1, 0.35, 2), [0.04, 0.04], hsv(0.14, 0.1, 1), (0, 0, 1), 0.0, 0.8)
    base = rng.uniform(0.7, 0.88) if rng.random() < 0.5 else 1.0
    for layer in range(3):
        lamps, towers, left = np.zeros((2 * size, 2 * size), np.uint8), [], -0.05
        tone = mix(row_tone(image, int(size * 0.6)), 0.05, mix(0.25, 0.75, layer / 2))
        while left < 1:
            width = rng.uniform(0.05, 0.12) * (1 + 0.35 * layer)
            roof = base - rng.uniform(0.1, mix(0.6, 0.35, layer / 2))
            spike = left + width * rng.uniform(0.2, 0.8)
            towers.append(
                (
                    [(left, base), (left, roof), (left + width, roof), (left + width, base)],
                    tone * rng.uniform(0.7, 1.3),
                )
            )
            if rng.random() < 0.3:
                towers.append((stroke([(spike, roof), (spike, roof - 0.1)], 0.008, 0.002), tone))
            light_windows(lamps, rng, left, roof, width, base)
            left += width * rng.uniform(0.8, 1.2)
        paint(image, towers, 0.8 + 0.4 * (1 - y))
        lit = cv2.resize(lamps, (size, size), interpolation=cv2.INTER_AREA).astype("f4") / 255
        image += (lit + 0.9 * soften(lit, 0.012)) * hsv(rng.uniform(0.07, 0.16), 0.45, 0.95)
    if base < 1:
        water(image, rng, base - 0.002, top)
        return image, "a city at night by the water"
    return image, "a city at night"


def light_windows(lamps, rng, left, roof, width, base):
    """Switch on some windows of one building in the double-size plane `lamps`."""
    side = lamps.shape[0]
    pitch = int(rng.integers(6, 12)) * side // 512
    top, bottom = int(roof * side) + 4, int(base * side)
    start, end = max(0, int(left * side) + 3), min(side, int((left + width) * side) - 3)
    rows, columns = (bottom - top) // pitch, (end - start) // pitch
    if rows < 1 or columns < 1:
        return
    lamps[top - 4 : bottom, max(0, start - 3) : end + 3] = 0
    on = (rng.random((rows, columns)) < rng.uniform(0.1, 0.6)) * rng.uniform(
        90, 255, (rows, columns)
    )
    pane = np.zeros((pitch, pitch))
    pane[1 : pitch - 2, 1 : pitch - 2] = 1
    lamps[top : top + rows * pitch, start : start + columns * pitch] = np.kron(on, pane)


def sea(rng, size):
    name = pick(rng, ["red", "golden", "purple", "pink"])
    image, _ = sky(rng, size, name)
    x, y = grid(size)
    level, sun = rng.uniform(0.45, 0.65), rng.uniform(0.2, 0.8)
    height, radius = level - rng.uniform(-0.02, 0.18), rng.uniform(0.03, 0.07)
    away = np.hypot(x - sun, y - height)
    warm = hsv(rng.uniform(0.04, 0.13), 0.5, 1)
    image += warm * (0.5 * np.exp(-away * 6))
    cover(image, step(radius, radius - 0.012, away), mix(warm, 1.0, 0.6))
    if rng.random() < 0.5:
        line = level - 0.05 * np.abs(ridge(rng, size, 2)) * step(0.2, 0.9, np.abs(x[0] - sun) * 2)
        land(image, line, row_tone(image, 10) * 0.5)
    water(image, rng, level, row_tone(image, 5) * 0.5)
    sparkle = receding(fractal(rng, size, (40, 10), 3, 0.8), level)
    column = np.exp(-(((x - sun) / (0.05 + 0.3 * np.maximum(y - level, 0))) ** 2))
    image += warm * (0.9 * step(0.5, 0.75, sparkle) * column * (y > level))
    return image, f"the sea at sunset, {name} sky"


def forest(rng, size):
    season = pick(rng, ["green", "green", "autumn", "misty"])
    hue = {"green": 0.27, "autumn": 0.08, "misty": 0.45}[season] + rng.uniform(-0.03, 0.03)
    saturation = 0.2 if season == "misty" else 0.6
    x, y = grid(size)
    haze = hsv(hue, saturation * 0.5, rng.uniform(0.7, 0.95))
    leaf, bark = hsv(hue, saturation, 0.38), hsv(0.08, 0.4, 0.15)
    noise, fine = fractal(rng, size, (5, 5), 6, 0.75), fractal(rng, size, (10, 40), 3, 0.8)
    leaf_light = relief(noise, 2.5)
    away = np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.2, 0.5))
    image = mix(haze, leaf, np.clip(away * 1.2, 0, 0.8) * (0.6 + 0.8 * noise))
    for index in range(4):
        near = (index + 1) / 4
        trunks = []
        for foot in rng.random(int(rng.integers(5, 11) * (1.3 - near * 0.8))):
            bend = foot + rng.uniform(-0.06, 0.06)
            width = rng.uniform(0.012, 0.03) * (0.4 + 2 * near**2)
            base = 0.62 + 0.3 * near
            tone = mix(haze, bark, 0.2 + 0.75 * near)
            trunks.append(
                (stroke(curve([(foot, base), (bend, 0.4), (bend, -0.1)]), width, width / 2), tone)
            )
            twig = rng.uniform(0.1, 0.5)
            tip = bend + rng.uniform(-0.2, 0.2)
            trunks.append((stroke([(bend, twig + 0.1), (tip, twig)], width / 3, 0.002), tone))
        paint(image, trunks, 0.6 + 0.8 * fine)
        ground = 0.6 + 0.29 * near + 0.02 * ridge(rng, size, 4)
        shift = turned(noise, index)
        light = turned(leaf_light, index)
        foliage = mix(haze, leaf * light * rng.uniform(0.8, 1.3), 0.25 + 0.65 * near)
        land(image, ground, foliage * 0.85)
        edge = 0.30 + y * 0.9 + 0.12 * near
        cover(image, step(edge, edge + 0.08, shift) * 0.92, foliage)
    return (
        image,
        {"green": "a green forest", "autumn": "a forest in autumn", "misty": "a misty forest"}[
            season
        ],
    )


def planets(rng, size):
    x, y = grid(size)
    hue, gas = rng.random(), fractal(rng, size, (2, 2), 6, 0.6)
    image = hsv(hue, 0.8, 0.5) * step(0.45, 1.0, gas) + hsv(
        hue + rng.uniform(0.1, 0.4), 0.7, 0.4
    ) * step(0.5, 1.0, turned(gas, 1))
    image += step(
        rng.uniform(0.985, 0.997), 1.0, rng.random((size, size), dtype="f4")
    ) * rng.uniform(0.5, 1)
    light = light_from(rng) * [1.4, 1.2, 0.5]
    for _ in range(int(rng.integers(2, 5))):
        centre, radius = rng.uniform(0.1, 0.9, 2), rng.uniform(0.04, 0.26)
        tilt = rng.uniform(-0.5, 0.5)
        colour = hsv(rng.random(), rng.uniform(0.1, 0.7), rng.uniform(0.5, 1))
        second = hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.3, 1))
        noise = fractal(rng, size, (5, 5), 6, 0.65)
        surface = step(0.4, 0.6, noise)
        if rng.random() < 0.5:
            surface = (
                0.5
                + 0.5
                * np.sin((y + tilt * x + 0.05 * noise) / radius * rng.uniform(8, 20))
                * noise
                * 1.6
            )
        ring = rng.random() < 0.35
        paths = [
            oval(centre, (radius * k, radius * k * 0.25), -tilt, np.pi, 2 * np.pi)
            for k in (1.5, 1.75, 2.0)
        ]
        rings = [
            (stroke(path, 0.025, 0.025), mix(colour, 0.8, 0.3) * rng.uniform(0.5, 1))
            for path in paths
        ]
        if ring:
            paint(image, rings, 0.8)
        dim(image, centre, [radius * 1.25] * 2, -0.8)
        ball(
            image,
            centre,
            [radius] * 2,
            mix(colour, second, surface) * relief(noise, 3),
            light,
            0.1,
            0.02,
        )
        if ring:
            paint(image, [(2 * centre - points, tone) for points, tone in rings], 0.9)
    return image, "planets in space among the stars"


def dunes(rng, size):
    image, name = sky(rng, size)
    x, y = grid(size)
    sand = hsv(rng.uniform(0.05, 0.12), rng.uniform(0.35, 0.7), rng.uniform(0.7, 0.95))
    haze = row_tone(image, size // 2)
    warp, grain = fractal(rng, size, (2, 2), 3, 0.4), fractal(rng, size, (60, 60), 2, 0.9)
    side, count = int(rng.choice([-1, 1])), int(rng.integers(3, 6))
    for index in range(count):
        near = (index + 1) / count
        line = mix(0.42, 0.85, index / count) + 0.09 * ridge(
            rng, size, rng.uniform(1.2, 2.5), 3, 0.35
        )
        below = y - line
        slope = cv2.GaussianBlur(np.gradient(line).astype("f4")[None] * size, (0, 0), 4)[0]
        # Shade follows the slope of the outline, drifting sideways as a crest snakes down.
        drift = np.clip(x + (below * 0.9 * side + 0.35 * (warp - 0.5)) * (below > 0), 0, 0.999)
        crest = slope[(drift * size).astype(int)]
        lit = mix(0.42, 1.05, step(-0.12, 0.12, crest * side))
        ripples = 1 + 0.13 * near**2 * np.sin(
            (below * 160 + warp * 40 + x * 25 * side) / (0.5 + near)
        ) * step(0.02, 0.2, below)
        land(
            image, line, mix(haze, sand * lit * ripples * (0.92 + 0.16 * grain), 0.45 + 0.55 * near)
        )
    return image, f"desert dunes under a {name} sky"


def branch(shapes, tips, rng, foot, angle, length, width, bark):
    """Add a branch and, in turn, the two that grow from its end; twig ends go to `tips`."""
    end = foot + length * np.array([np.cos(angle), np.sin(angle)])
    middle = (foot + end) / 2 + rng.normal(0, 0.05, 2) * length
    shapes.append((stroke([foot, middle, end], width, width * 0.65), bark * rng.uniform(0.8, 1.2)))
    if length < 0.042:
        tips.append(end)
        return
    for side in (-1, 1):
        bend, shorter = side * rng.uniform(0.2, 0.65), length * rng.uniform(0.66, 0.82)
        branch(shapes, tips, rng, end, angle + bend, shorter, width * 0.65, bark)


def tree(rng, size):
    image, name = sky(rng, size)
    season, level = pick(rng, ["summer", "autumn", "blossom", "winter"]), rng.uniform(0.7, 0.85)
    ground = (0.1, 0.08) if season == "winter" else (rng.uniform(0.17, 0.32), 0.55)
    meadow(image, rng, level, *ground)
    foot, shapes, tips = np.array([rng.uniform(0.35, 0.65), level + 0.08]), [], []
    dim(image, foot + [rng.uniform(-0.15, 0.15), 0], [0.3, 0.05], 0.6)
    branch(
        shapes,
        tips,
        rng,
        foot,
        -np.pi / 2 + rng.normal(0, 0.08),
        rng.uniform(0.17, 0.25),
        rng.uniform(0.035, 0.06),
        hsv(0.07, 0.4, rng.uniform(0.15, 0.35)),
    )
    paint(image, shapes, 0.5 + 0.9 * fractal(rng, size, (8, 50), 3, 0.8))
    if season == "winter":
        return image, f"a bare tree, {name} sky"
    leaf = hsv(
        *{
            "summer": (rng.uniform(0.2, 0.36), 0.65, 0.5),
            "autumn": (rng.uniform(0.02, 0.13), 0.85, 0.8),
            "blossom": (0.94, 0.35, 0.95),
        }[season]
    )
    tips = rng.choice(tips, 200) + rng.normal(0, 0.025, (200, 2))
    tones = rng.uniform(0.6, 1.15, 200) * (1 - 1.2 * (tips[:, 1] - tips[:, 1].mean()))
    leaves = zip(clumps(rng, tips, (0.012, 0.042), 0.005), (leaf * tone for tone in tones))
    paint(image, list(leaves), 0.45 + 1.1 * fractal(rng, size, (24, 24), 3, 0.95))
    return (
        image,
        {
            "summer": "a green tree",
            "autumn": "a tree in autumn",
            "blossom": "a tree in pink blossom",
        }[season]
        + f", {name} sky",
    )
