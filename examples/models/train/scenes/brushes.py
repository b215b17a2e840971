"""What scenes are painted with: colours, noise, shapes and light.

Pictures are planar float32 (3, H, W) in 0..1 until `finish`; colours are arrays of shape (3, 1, 1);
coordinates are fractions of the side, y downwards. Everything random comes from `rng`.
"""

import colorsys
from functools import lru_cache

import cv2
import numpy as np

HUES = {
    "red": (0.99, 0.85, 0.80),
    "orange": (0.07, 0.88, 0.92),
    "yellow": (0.14, 0.82, 0.95),
    "green": (0.34, 0.60, 0.55),
    "blue": (0.61, 0.72, 0.80),
    "purple": (0.77, 0.58, 0.68),
    "pink": (0.93, 0.45, 0.95),
    "white": (0.12, 0.06, 0.95),
}


def hsv(hue, saturation, value):
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32).reshape(3, 1, 1)


def pick(rng, options):
    return options[int(rng.integers(len(options)))]


def hue_of(rng, name, spread=0.02):
    hue, saturation, value = HUES[name]
    return hsv(
        hue + rng.uniform(-spread, spread),
        min(1, saturation * rng.uniform(0.85, 1.1)),
        min(1, value * rng.uniform(0.85, 1.05)),
    )


@lru_cache(maxsize=4)
def grid(size):
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    return np.meshgrid(axis, axis)


def mix(first, second, amount):
    blend = (second - first) * amount
    blend += first
    return blend


def step(low, high, field):
    ramp = np.clip((field - low) / (high - low), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def soften(field, radius):
    """Two box blurs: near enough to a Gaussian, at a cost that does not grow with the radius."""
    side = 2 * max(1, int(radius * field.shape[0])) + 1
    return cv2.blur(cv2.blur(field, (side, side)), (side, side))


def fractal(rng, size, cells=(4, 4), octaves=5, gain=0.55):
    """Multi-octave noise in 0..1 with mean 0.5; `cells` are the coarsest (rows, columns)."""
    total, weight = np.zeros((size, size), np.float32), 1.0
    for octave in range(octaves):
        rows, columns = (min(int(count * 2**octave) + 2, size) for count in cells)
        layer = rng.random((rows, columns), dtype=np.float32)
        total += weight * cv2.resize(layer, (size, size), interpolation=cv2.INTER_CUBIC)
        weight *= gain
    mean, deviation = cv2.meanStdDev(total)
    return np.clip((total - mean[0, 0]) / (5 * deviation[0, 0] + 1e-6) + 0.5, 0, 1).astype("f4")


def ridge(rng, size, cells, octaves=6, gain=0.5):
    """One-dimensional fractal noise, roughly -1..1: the outline of a hill."""
    line, weight = np.zeros(size, np.float32), 1.0
    for octave in range(octaves):
        knots = rng.uniform(-1, 1, (1, int(cells * 2**octave) + 2)).astype(np.float32)
        line += weight * cv2.resize(knots, (size, 1), interpolation=cv2.INTER_CUBIC)[0]
        weight *= gain
    return line


def relief(field, strength=6.0):
    """Light from the upper left on `field` taken as a height map; 1 where it is flat."""
    slope = cv2.Sobel(field, cv2.CV_32F, 1, 0, ksize=3) + cv2.Sobel(
        field, cv2.CV_32F, 0, 1, ksize=3
    )
    return np.clip(1 - strength * slope / 4, 0.3, 1.7)


def turned(field, quarters):
    """The same noise seen another way round: cheaper than making more."""
    return np.rot90(field, quarters)


def receding(field, level):
    """Lay `field` on the ground plane that vanishes at height `level`, fading it far away."""
    size = field.shape[0]
    x, y = grid(size)
    depth = np.maximum(y - level, 0) + 0.03
    across, along = ((x - 0.5) * 0.35 / depth + 0.5) * size, 0.2 / depth * size
    laid = cv2.remap(field, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return 0.5 + (laid - 0.5) * np.clip(depth * 6, 0.15, 1)


def oval(centre, radii, angle=0.0, start=0.0, end=2 * np.pi):
    turn = np.linspace(start, end, 40)
    points = np.stack([np.cos(turn) * radii[0], np.sin(turn) * radii[1]], 1)
    return place(points, centre, 1.0, angle)


def place(points, centre, scale, angle=0.0):
    """Turn, scale and move points; a negative scale in one direction mirrors them."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(points) @ np.array([[cosine, sine], [-sine, cosine]]) * scale + centre


def curve(points, count=24):
    """A smooth path: the Bezier curve of three control points."""
    t = np.linspace(0, 1, count)[:, None]
    first, middle, last = np.asarray(points, float)
    return (1 - t) ** 2 * first + 2 * t * (1 - t) * middle + t**2 * last


def curves(*points):
    """The outline that goes along one curve after another."""
    return np.concatenate([curve(three) for three in points])


def stroke(path, start, end):
    """The outline of a path whose width goes from `start` to `end`."""
    path = np.asarray(path, float)
    along = path[1:] - path[:-1]
    along = np.concatenate([along, along[-1:]])
    width = start + (end - start) * np.arange(len(path)) / (len(path) - 1)
    side = along[:, ::-1] * (width / (np.hypot(along[:, 0], along[:, 1]) + 1e-9))[:, None]
    side *= (-0.5, 0.5)
    return np.concatenate([path + side, (path - side)[::-1]])


def window(size, low, high):
    """The slices of the picture that hold the box between two corners: work only there."""
    edges = np.clip([np.floor(low) - 1, np.ceil(high) + 1], 0, size).astype(int)
    return slice(edges[0, 1], edges[1, 1]), slice(edges[0, 0], edges[1, 0])


def cut(field, rows, columns):
    """The window of a field; plain numbers and flat colours stay as they are."""
    if np.ndim(field) < 2 or field.shape[-1] == 1:
        return field
    return field[..., rows, columns]


def paint(image, shapes, shade=1.0):
    """Composite (points, colour) polygons in order, under the light `shade` on all of them.

    `shade` is a number, a field, or a function that makes one for the (x, y) of a small window.
    """
    size = image.shape[1]
    outlines = [np.asarray(points) * size for points, _ in shapes]
    if not outlines:
        return
    spots = np.concatenate(outlines)
    rows, columns = window(size, spots.min(0), spots.max(0))
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if height < 1 or width < 1:
        return
    plane = np.zeros((2 * height, 2 * width, 4), np.uint8)
    for points, (_, colour) in zip(outlines, shapes):
        fixed = ((points - (columns.start, rows.start)) * 32).astype(np.int32)
        tone = [255 * min(1.0, max(0.0, value)) for value in colour.ravel().tolist()]
        cv2.fillPoly(plane, [fixed], (*tone, 255), cv2.LINE_AA, 4)
    small = cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)
    layer = np.array(cv2.split(small), np.float32)
    layer *= 1 / 255
    view = image[:, rows, columns]
    view *= 1 - layer[3]
    if callable(shade):
        layer[:3] *= shade(*(cut(axis, rows, columns) for axis in grid(size)))
    else:
        layer[:3] *= cut(shade, rows, columns)
    view += layer[:3]


def cover(image, mask, colour):
    change = colour - image
    change *= mask
    image += change


def land(image, line, colour):
    """Cover everything under the outline `line` (a height for every column)."""
    size = image.shape[1]
    cover(image, np.clip((grid(size)[1] - line) * size + 0.5, 0, 1), colour)


def apart(plane, centre, radii):
    """How far every pixel of `plane` is from `centre` across and down, in units of `radii`."""
    x, y = plane
    # Python floats, since a NumPy one would turn every field into float64.
    return (x - float(centre[0])) / float(radii[0]), (y - float(centre[1])) / float(radii[1])


def around(image, centre, radii, reach):
    """The part of the picture within `reach` radii of a point, and its slices."""
    size, spread = image.shape[1], reach * np.asarray(radii)
    rows, columns = window(size, (centre - spread) * size, (centre + spread) * size)
    return image[:, rows, columns], (rows, columns)


def row_tone(image, row):
    """The mean colour of a row: what far things there fade to."""
    return image[:, row].mean(1).reshape(3, 1, 1)


def dim(image, centre, radii, strength):
    """A soft elliptical shadow (or, with a negative strength, light)."""
    view, part = around(image, centre, radii, 2.2)
    u, v = apart([cut(axis, *part) for axis in grid(image.shape[1])], centre, radii)
    view *= 1 - strength * np.exp(-1.5 * (u * u + v * v))


def roundness(plane, centre, radii, light):
    """Diffuse light on an ellipsoid, 0..1, at every pixel of `plane` (its two axes)."""
    u, v = apart(plane, centre, radii)
    front = np.sqrt(np.maximum(1 - u * u - v * v, 0))
    return np.clip(u * float(light[0]) + v * float(light[1]) + front * float(light[2]), 0, 1)


def ball(image, centre, radii, colour, light, gloss=0.4, ambient=0.25):
    view, part = around(image, centre, radii, 1.1)
    plane = [cut(axis, *part) for axis in grid(image.shape[1])]
    lit = roundness(plane, centre, radii, light)
    edge = (1 - np.hypot(*apart(plane, centre, radii))) * float(min(radii)) * image.shape[1]
    shine = gloss * lit**30 if gloss else 0
    tone = cut(colour, *part) * (ambient + (1.1 - ambient) * lit) + shine
    cover(view, np.clip(edge + 0.5, 0, 1), tone)


def light_from(rng):
    """A unit vector to a lamp above, to the left or the right, in front."""
    vector = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.8, -0.3), rng.uniform(0.4, 0.8)])
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def finish(image, rng):
    """Exposure, contrast, warmth, saturation, vignette and grain, then 8 bits."""
    size = image.shape[1]
    x, y = grid(size)
    image = np.clip(image, 0, 1)
    image += image * (1 - image) * rng.uniform(-0.3, 0.45)
    warmth = rng.uniform(-0.05, 0.05)
    image *= np.array([1 + warmth, 1, 1 - warmth], np.float32).reshape(3, 1, 1)
    image = mix(image.mean(0), image, rng.uniform(0.75, 1.2))
    image *= rng.uniform(0.88, 1.08) - rng.uniform(0, 0.7) * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    image += rng.uniform(0.0, 0.06) * (rng.random((size, size), dtype=np.float32) - 0.5)
    return np.ascontiguousarray((np.clip(image, 0, 1) * 255 + 0.5).astype("u1").transpose(1, 2, 0))
