"""The looks: what a prompt's style word does to a picture, as image processing.

A look is a function of a picture, [h, w, 3] floats in 0..1, and nothing else, so that a network can
learn it from pairs. Patterns have the period of a latent's square (8 pixels), lines and regions follow
the picture. Lengths are in pixels of a picture of 256 x 256.
"""

import cv2
import numpy as np

GREY = np.array([0.299, 0.587, 0.114], np.float32)


def luma(x):
    return x @ GREY


def blur(x, sigma):
    return cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def slopes(y, sigma=0.0):
    """Sobel derivatives of a grey picture along x and y, 1 for a step from black to white."""
    y = blur(y, sigma) if sigma else y
    return (cv2.Sobel(y, cv2.CV_32F, *d, ksize=3, scale=0.25) for d in ((1, 0), (0, 1)))


def edges(x, sigma=1.0):
    return np.hypot(*slopes(luma(x), sigma))


def ramp(y, *stops):
    """Brightness to colour along evenly spaced stops."""
    at = np.clip(y, 0, 1) * (len(stops) - 1)
    low = np.minimum(at.astype(np.int32), len(stops) - 2)
    stops = np.array(stops, np.float32)
    part = (at - low)[..., None]
    return stops[low] * (1 - part) + stops[low + 1] * part


def stretch(y):
    """Full contrast, so that a dull source does not make a dull picture."""
    low, high = np.percentile(y[::4, ::4], (2, 98))
    return np.clip((y - low) / np.float32(max(high - low, 0.15)), 0, 1).astype(np.float32)


def saturate(x, amount):
    grey = luma(x)[..., None]
    return np.clip(grey + (x - grey) * amount, 0, 1)


def flatten(x, passes=2, reach=7):
    """Smooth inside of regions, sharp between them."""
    for _ in range(passes):
        x = cv2.bilateralFilter(x, reach, 0.12, reach)
    return x


def outline(x, sigma, gain=40.0, bias=0.018):
    """1 on lines of drawing, 0 elsewhere: difference of Gaussians, soft threshold."""
    y = luma(flatten(x, 1))
    return np.clip((blur(y, 1.6 * sigma) - 0.98 * blur(y, sigma) - bias) * gain, 0, 1)


def checker(shape, period):
    """Distance to the nearest of points that lie like the black squares of a chessboard."""
    i, j = np.indices(shape, np.float32)
    best = None
    for oy, ox in ((0.0, 0.0), (0.5, 0.5)):
        dy, dx = (i + 0.5) / period - oy, (j + 0.5) / period - ox
        r = np.hypot(dy - np.round(dy), dx - np.round(dx))
        best = r if best is None else np.minimum(best, r)
    return best.astype(np.float32)


def kuwahara(x, reach):
    """Each pixel takes the mean of the quietest of the four squares that meet in it."""
    y, size = luma(x), (reach + 1, reach + 1)
    best = out = None
    for anchor in ((0, 0), (reach, 0), (0, reach), (reach, reach)):
        mean = cv2.boxFilter(x, -1, size, anchor=anchor, borderType=cv2.BORDER_REFLECT_101)
        m, s = (
            cv2.boxFilter(v, -1, size, anchor=anchor, borderType=cv2.BORDER_REFLECT_101)
            for v in (y, y * y)
        )
        noise = s - m * m
        if best is None:
            best, out = noise, mean
        else:
            quieter = noise < best
            best = np.where(quieter, noise, best)
            out = np.where(quieter[..., None], mean, out)
    return out


def pencil(x):
    y = stretch(luma(x))
    dodge = np.clip(y / (blur(y, 5) + 0.08), 0, 1) ** 1.6
    tone = 0.68 + 0.32 * y
    return ramp(dodge * tone, (0.1, 0.1, 0.12), (0.55, 0.54, 0.54), (0.98, 0.97, 0.94))


def ink(x):
    y = stretch(luma(flatten(x, 1)))
    lines = outline(x, 1.1)
    fill = 1 / (1 + np.exp(-(y - 0.33) * 22))
    return ramp(np.clip(fill - lines, 0, 1), (0.03, 0.03, 0.05), (1.0, 0.99, 0.96))


def oil(x):
    y = saturate(kuwahara(kuwahara(x, 4), 5), 1.45)
    gx, gy = slopes(luma(y), 0.8)
    relief = np.clip(1 + 1.1 * (gx + gy), 0.6, 1.5)[..., None]
    warm = np.array([1.06, 1.0, 0.88], np.float32)
    return ((y - 0.5) * 1.15 + 0.5) * relief * warm


def watercolour(x):
    flat = saturate(kuwahara(flatten(x, 1, 9), 3), 2.3)
    light = stretch(luma(flat))[..., None]
    wash = 1 - (1 - flat) * (0.75 - 0.45 * light)
    rim = np.clip(edges(flat, 1.2) * 3.5 - 0.08, 0, 0.5)[..., None]
    return wash * (1 - rim * np.array([0.9, 0.8, 0.45], np.float32))


def neon(x):
    y = blur(x, 0.8)
    gx, gy = slopes(luma(y), 0.8)
    power = np.clip(np.hypot(gx, gy) * 7, 0, 1) ** 1.1
    turn = 0.5 + 0.5 * np.sin(2 * np.arctan2(gy, gx))
    tube = ramp(turn, (1.0, 0.1, 0.75), (0.55, 0.25, 1.0), (0.1, 0.95, 1.0)) * power[..., None]
    dark = ramp(luma(y), (0.02, 0.0, 0.06), (0.16, 0.04, 0.3))
    return dark + tube + 0.9 * blur(tube, 4) + 0.3 * np.clip(power - 0.6, 0, 1)[..., None]


def pixel_art(x):
    h, w = x.shape[0] // 8, x.shape[1] // 8
    y = cv2.resize(saturate(x, 1.5), (w, h), interpolation=cv2.INTER_AREA)
    y = np.clip((y - 0.5) * 1.25 + 0.5, 0, 1)
    y = np.round(y * 4) / 4
    return cv2.resize(y, (x.shape[1], x.shape[0]), interpolation=cv2.INTER_NEAREST)


def thermal(x):
    y = stretch(luma(blur(x, 2.0)))
    return ramp(
        y,
        (0.02, 0, 0.15),
        (0.3, 0, 0.6),
        (0.85, 0.05, 0.4),
        (1, 0.5, 0),
        (1, 0.95, 0.3),
        (1, 1, 0.9),
    )


def blueprint(x):
    lines = np.clip(edges(x, 0.9) * 6.5 - 0.12, 0, 1)
    i, j = np.indices(lines.shape)
    grid = 0.1 * ((i % 16 == 0) | (j % 16 == 0))
    paper = ramp(luma(x), (0.02, 0.13, 0.42), (0.08, 0.27, 0.62))
    ink_ = np.maximum(lines, grid)[..., None]
    return paper * (1 - ink_) + np.array([0.9, 0.96, 1.0], np.float32) * ink_


def regions(x, levels):
    """Posterised: few flat colours with sharp borders."""
    y = flatten(x, 2, 7)
    v = cv2.cvtColor(np.clip(y, 0, 1).astype(np.float32), cv2.COLOR_RGB2HSV)
    v[..., 2] = (np.floor(v[..., 2] * levels * 0.999) + 0.6) / levels
    v[..., 0] = np.round(v[..., 0] / 30) * 30 % 360
    return cv2.cvtColor(v, cv2.COLOR_HSV2RGB), v[..., 2]


def stained_glass(x):
    y, value = regions(kuwahara(x, 5), 4)
    y = saturate(y, 2.2)
    smooth = cv2.medianBlur((value * 255).astype(np.uint8), 5).astype(np.float32) / 255
    border = np.clip(np.hypot(*slopes(smooth, 0.9)) * 14, 0, 1)
    lead = cv2.dilate(border, np.ones((2, 2), np.uint8))[..., None]
    glow = np.clip(blur(y, 3) * 0.35 + y * 0.95, 0, 1)
    return glow * (1 - lead) + 0.03 * lead


def embers(x):
    y = stretch(luma(blur(x, 1.0)))
    heat = 0.62 * y**1.7 + np.clip(edges(x, 1.0) * 2.6, 0, 0.55)
    heat = heat + 0.35 * blur(heat, 4)
    return ramp(
        heat,
        (0.03, 0.01, 0.01),
        (0.4, 0.04, 0.0),
        (0.95, 0.35, 0.02),
        (1.0, 0.8, 0.25),
        (1, 0.97, 0.75),
    )


def ice(x):
    y = stretch(luma(x))
    frost = np.clip(y + 1.6 * (y - blur(y, 3)) + 1.2 * edges(x, 0.8), 0, 1)
    return ramp(frost, (0.03, 0.1, 0.25), (0.2, 0.5, 0.75), (0.68, 0.9, 0.98), (1, 1, 1))


def comic(x):
    y, _ = regions(x, 4)
    lines = outline(x, 1.3)[..., None]
    return saturate(np.clip(y * 1.12 + 0.04, 0, 1), 1.6) * (1 - lines)


def gold(x):
    y = stretch(luma(blur(x, 0.8)))
    gx, gy = slopes(y, 1.0)
    shine = np.clip(0.42 + 0.25 * (y - 0.5) + 2.4 * (gx + gy), 0, 1)
    return ramp(shine, (0.12, 0.05, 0.0), (0.5, 0.3, 0.05), (0.95, 0.72, 0.2), (1.0, 0.97, 0.75))


def halftone(x):
    y = stretch(luma(blur(x, 1.5)))
    dot = np.sqrt(1 - y**0.7) * 0.62
    cover = np.clip((dot - checker(y.shape, 8)) * 8 * 1.2 + 0.5, 0, 1)
    return ramp(1 - cover, (0.1, 0.09, 0.1), (0.93, 0.9, 0.8))


def vaporwave(x):
    y = stretch(luma(blur(x, 0.7)))
    lit = ramp(
        y,
        (0.15, 0.02, 0.35),
        (0.55, 0.15, 0.75),
        (1.0, 0.45, 0.75),
        (0.45, 0.9, 0.95),
        (0.95, 1, 0.95),
    )
    scan = 1 - 0.22 * (np.arange(x.shape[0]) % 4 < 2)
    return lit * scan[:, None, None]


def chalk(x):
    y = blur(x, 0.7)
    lines = np.clip(edges(y, 0.9) * 7.5 - 0.1, 0, 1)[..., None]
    hue = saturate(0.35 + 0.75 * y, 1.6)
    board = np.array([0.13, 0.2, 0.17], np.float32)
    fill = np.clip(stretch(luma(y)) - 0.55, 0, 1)[..., None] * 0.7
    return board * (1 - lines) * (1 - fill) + hue * np.maximum(lines, fill)


LOOKS = {
    "pencil": pencil,
    "ink": ink,
    "oil": oil,
    "watercolour": watercolour,
    "neon": neon,
    "pixel art": pixel_art,
    "thermal": thermal,
    "blueprint": blueprint,
    "stained glass": stained_glass,
    "embers": embers,
    "ice": ice,
    "comic": comic,
    "gold": gold,
    "halftone": halftone,
    "vaporwave": vaporwave,
    "chalk": chalk,
}

COLOURS = {
    "red": (0.85, 0.08, 0.08),
    "orange": (0.95, 0.5, 0.05),
    "green": (0.1, 0.6, 0.2),
    "blue": (0.1, 0.3, 0.9),
    "purple": (0.55, 0.15, 0.8),
    "pink": (0.98, 0.4, 0.65),
}


def tint(x, colour):
    """Mostly one colour, with its shadows and lights."""
    c = COLOURS[colour]
    dark = tuple(0.12 * v for v in c)
    return 0.25 * x + 0.75 * ramp(luma(x), dark, c, (1.0, 1.0, 1.0))


def apply(picture, look=None, colour=None):
    """uint8 to uint8, [h, w, 3]; a look first, then a colour."""
    x = picture.astype(np.float32) / 255
    if look:
        x = np.clip(LOOKS[look](x), 0, 1).astype(np.float32)
    if colour:
        x = np.clip(tint(x, colour), 0, 1)
    return (x * 255 + 0.5).astype(np.uint8)
