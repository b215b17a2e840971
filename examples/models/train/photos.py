"""The photographs: where they come from, which are kept for the evaluation, and crops of them.

All of them ship inside packages of requirements.txt. What the model learns from is in the public
domain or CC0. HELD_OUT is seen by no training program; two of it are CC BY and only ever shown.
"""

import pathlib

import cv2
import matplotlib
import numpy as np
import skimage.data
import sklearn.datasets

SKIMAGE = pathlib.Path(skimage.data.__file__).parent
SKLEARN = pathlib.Path(sklearn.datasets.__file__).parent / "images"
MATPLOTLIB = pathlib.Path(matplotlib.get_data_path()) / "sample_data"

# name: (file, what it shows, licence as its package documents it)
TRAIN = {
    "astronaut": (SKIMAGE / "astronaut.png", "a portrait of an astronaut", "NASA, public domain"),
    "camera": (SKIMAGE / "camera.png", "a man with a camera", "CC0, Lav Varshney"),
    "coffee": (SKIMAGE / "coffee.png", "a cup of coffee", "CC0, Rachel Michetti"),
    "rocket": (SKIMAGE / "rocket.jpg", "a rocket at night", "SpaceX, public domain"),
    "hubble": (SKIMAGE / "hubble_deep_field.jpg", "galaxies", "NASA, public domain"),
    "coins": (SKIMAGE / "coins.png", "coins", "Brooklyn Museum, no known restrictions"),
    "retina": (SKIMAGE / "retina.jpg", "the retina of an eye", "CC0, Mikael Häggström"),
    "ihc": (SKIMAGE / "ihc.png", "cells", "CMMI, no known restrictions"),
    "grass": (SKIMAGE / "grass.png", "grass", "CC0, linolafett"),
    "gravel": (SKIMAGE / "gravel.png", "gravel", "CC0, Rob Tuytel"),
    "brick": (SKIMAGE / "brick.png", "a brick wall", "CC0, Rob Tuytel"),
}
HELD_OUT = {
    "cat": (SKIMAGE / "chelsea.png", "a cat", "CC0, Stefan van der Walt"),
    "palace": (SKLEARN / "china.jpg", "a palace", "CC BY 2.0, danielbuechele on Flickr"),
    "flower": (SKLEARN / "flower.jpg", "a flower", "CC BY 2.0, vultilion on Flickr"),
    "admiral": (MATPLOTLIB / "grace_hopper.jpg", "a portrait", "US Navy, public domain"),
}
# How often each is drawn: the few rich ones more than the textures.
WEIGHT = dict(astronaut=4, coffee=4, rocket=3, camera=3, hubble=2, retina=1, ihc=1, coins=1)


def read(path):
    x = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if x is None:
        raise SystemExit(f"{path}: cannot be read; is the package of requirements.txt installed?")
    return cv2.cvtColor(x, cv2.COLOR_BGR2RGB)


def load(table):
    return {name: read(entry[0]) for name, entry in table.items()}


def crop(x, top, left, side, size):
    part = x[top : top + side, left : left + side]
    way = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return cv2.resize(part, (size, size), interpolation=way)


def recolour(x, rng):
    """Other light: contrast, brightness, saturation and hue of the whole picture."""
    v = cv2.cvtColor(x, cv2.COLOR_RGB2HSV).astype(np.float32)
    if rng.random() < 0.35:
        v[..., 0] = (v[..., 0] + rng.uniform(0, 180)) % 180
    v[..., 1] *= rng.uniform(0.5, 1.5)
    y = cv2.cvtColor(np.clip(v, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    y = (y / 255 - 0.5) * rng.uniform(0.75, 1.25) + 0.5 + rng.uniform(-0.12, 0.12)
    if x[..., 0].std() and np.ptp(x.astype(np.int16), axis=2).max() < 8 and rng.random() < 0.7:
        dark, light = rng.uniform(0, 0.5, 3), rng.uniform(0.6, 1.1, 3)  # a grey one gets a colour
        y = dark + (light - dark) * y
    return (np.clip(y, 0, 1) * 255 + 0.5).astype(np.uint8)


def sample(pictures, rng, size=256):
    """A random view of a random training photograph: (picture, what it shows)."""
    names = sorted(pictures)
    weight = np.array([WEIGHT.get(n, 0.5) for n in names])
    name = names[rng.choice(len(names), p=weight / weight.sum())]
    x = pictures[name]
    least = min(x.shape[:2])
    side = int(least * rng.uniform(0.4, 1.0))
    top, left = (int(rng.integers(0, n - side + 1)) for n in x.shape[:2])
    y = crop(x, top, left, side, size)
    if rng.random() < 0.5:
        y = y[:, ::-1]
    return recolour(np.ascontiguousarray(y), rng), TRAIN[name][1]


def held_out_views(size=256):
    """[(name, picture)]: four fixed views of each held-out photograph, from the whole to a detail."""
    views = []
    for name, x in load(HELD_OUT).items():
        h, w = x.shape[:2]
        least = min(h, w)
        for part, fy, fx in ((1.0, 0.5, 0.5), (0.8, 0.3, 0.7), (0.65, 0.5, 0.35), (0.5, 0.4, 0.55)):
            side = int(least * part)
            views.append((name, crop(x, int((h - side) * fy), int((w - side) * fx), side, size)))
    return views
