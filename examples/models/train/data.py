"""The pictures to learn from: sources (photographs and scenes), each seen through every look.

Source i and its variants are a function of (seed, i) alone. They are rendered once, into a file of
the work folder, by as many processes as there are cores; what is there already is kept.

    images   [sources, VARIANTS, 256, 256, 3] uint8; variant 0 is the source itself, then the looks in
             order, then looks with a colour, last the source in a colour
"""

import concurrent.futures
import json
import os

import cv2
import numpy as np

import captions
import looks
import photos
import scenes

SIZE = 256
LOOKS = tuple(looks.LOOKS)
TINTED = 2  # looks with a colour, drawn for each source
VARIANTS = 1 + len(LOOKS) + TINTED + 1
PHOTOGRAPHS = 0.6  # share of sources
COLOURS = tuple(sorted(looks.COLOURS))
KINDS = (1 + len(LOOKS)) * (1 + len(COLOURS))


def subjects():
    return (*scenes.SUBJECTS, *(entry[1] for entry in photos.TRAIN.values()))


def source(pictures, seed, i):
    """(picture, what it shows, [(look, colour) of each variant])"""
    rng = np.random.default_rng((seed, i))
    if rng.random() < PHOTOGRAPHS:
        picture, subject = photos.sample(pictures, rng, SIZE)
    else:
        picture, subject = scenes.scene(scenes.SUBJECTS[i % len(scenes.SUBJECTS)], rng, SIZE)
        if rng.random() < 0.5:
            picture = photos.recolour(picture, rng)
            subject = subject.split(",")[0].split(" under ")[0]
    variants = [(None, None), *((name, None) for name in LOOKS)]
    for look in rng.choice(len(LOOKS), TINTED, replace=False):
        variants.append((LOOKS[look], COLOURS[rng.integers(len(COLOURS))]))
    variants.append((None, COLOURS[rng.integers(len(COLOURS))]))
    return picture, subject, variants


def render_range(job):
    path, shape, seed, first, last = job
    cv2.setNumThreads(1)
    images = np.memmap(path, np.uint8, "r+", shape=shape)
    pictures, facts = photos.load(photos.TRAIN), []
    for i in range(first, last):
        picture, subject, variants = source(pictures, seed, i)
        for j, (look, colour) in enumerate(variants):
            images[i, j] = looks.apply(picture, look, colour)
        facts.append(dict(subject=subject, variants=variants))
    images.flush()
    return facts


class Pictures:
    """All of it, from `folder`; rendered first where it is not there yet."""

    def __init__(self, folder, sources, seed):
        self.shape = (sources, VARIANTS, SIZE, SIZE, 3)
        path, index = (
            folder / f"images-{seed}-{sources}.u8",
            folder / f"images-{seed}-{sources}.json",
        )
        if not index.exists():
            self._render(path, index, seed)
        self.facts = json.loads(index.read_text())
        self.images = np.memmap(path, np.uint8, "r", shape=self.shape)

    def _render(self, path, index, seed):
        np.memmap(path, np.uint8, "w+", shape=self.shape).flush()
        step, facts = 20, []
        jobs = [
            (path, self.shape, seed, i, min(i + step, self.shape[0]))
            for i in range(0, self.shape[0], step)
        ]
        with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
            for part in pool.map(render_range, jobs):
                facts += part
                print(f"  rendered {len(facts)} of {self.shape[0]} sources", flush=True)
        index.write_text(json.dumps(facts))

    def crops(self, rng, count, side):
        """[count, side, side, 3] uint8: random variants, half of them on the grid of the latents."""
        out = np.empty((count, side, side, 3), np.uint8)
        for k in range(count):
            i, j = rng.integers(self.shape[0]), rng.integers(VARIANTS)
            y, x = rng.integers(0, SIZE - side + 1, 2)
            if k % 2:
                y, x = y // 8 * 8, x // 8 * 8
            out[k] = self.images[i, j, y : y + side, x : x + side]
        return out

    def kind(self, i, j):
        """One number for the look and colour of a variant, below KINDS."""
        look, colour = self.facts[i]["variants"][j]
        return (LOOKS.index(look) + 1 if look else 0) * (1 + len(COLOURS)) + (
            COLOURS.index(colour) + 1 if colour else 0
        )

    def caption(self, rng, i, j):
        fact = self.facts[i]
        return captions.caption(rng, fact["subject"], *fact["variants"][j])
