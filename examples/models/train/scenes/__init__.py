"""Procedural pictures with captions: varied, natural-ish training data made of noise and polygons.

`scene(subject, rng, size)` returns an RGB picture and a caption of what it shows; everything random
comes from `rng`, so that a seed is a picture.
"""

import numpy as np

from . import landscapes, living, things
from .brushes import finish

PAINTERS = {
    "mountains": landscapes.mountains,
    "a city at night": landscapes.city,
    "the sea at sunset": landscapes.sea,
    "a forest": landscapes.forest,
    "a flower": living.flower,
    "a portrait": living.portrait,
    "a cat": living.cat,
    "a bowl of fruit": things.fruit,
    "a house": things.house,
    "planets": landscapes.planets,
    "a sailing boat": things.boat,
    "balloons": things.balloons,
    "desert dunes": landscapes.dunes,
    "a tree": landscapes.tree,
    "fish": living.fish,
    "geometric shapes": things.solids,
}
SUBJECTS = tuple(PAINTERS)


def scene(subject, rng, size=256):
    """A picture of `subject`, uint8 (size, size, 3) RGB, and a caption of what it shows."""
    image, caption = PAINTERS[subject](rng, size)
    return finish(image.astype(np.float32), rng), caption
