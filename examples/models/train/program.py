"""`scope run` on many pictures at once, each with settings of its own: what evaluate.py measures.

All pictures of a call are frames of one run, and the settings are keyframes, one for each frame: the
model is loaded once, and what is measured is the program that people use.
"""

import json
import shutil
import subprocess

import cv2
import numpy as np

DEFAULTS = dict(
    prompts="", strength=0.6, seed=42, guidance_scale=1, negative_prompt="", num_inference_steps=1
)


def write_png(path, picture):
    if not cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise SystemExit(f"{path}: cannot be written")


class Program:
    def __init__(self, scope, plugin, model, work, size=256):
        self.scope, self.plugin, self.model, self.work, self.size = scope, plugin, model, work, size
        self.runs = 0

    def _folder(self, name):
        folder = self.work / f"{self.runs:02}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _call(self, settings, out, *more):
        keys = {
            name: [[f"{i}f", {**DEFAULTS, **s}[name], "hold"] for i, s in enumerate(settings)]
            for name in DEFAULTS
        }
        path = out.with_suffix(".json")
        path.write_text(json.dumps(keys))
        command = [self.scope, "run", "--plugin", self.plugin, "--model-id-or-path", self.model]
        command += ["--size", f"{self.size}x{self.size}", "--keyframes", path, "-o", f"{out}/"]
        done = subprocess.run([*command, "--overwrite", "--quiet", *more], stderr=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"scope run: {done.stderr.decode().strip()}")
        self.runs += 1
        made = sorted(out.glob("*.png"))
        if len(made) != len(settings):
            raise SystemExit(f"scope run: {len(made)} pictures instead of {len(settings)} in {out}")
        return np.stack([cv2.imread(str(p))[..., ::-1] for p in made])

    def restyle(self, jobs):
        """[n, size, size, 3] uint8 of [(picture, settings)]; settings replace DEFAULTS."""
        source, out = self._folder("in"), self._folder("out")
        for i, (picture, _) in enumerate(jobs):
            write_png(source / f"{i:06}.png", picture)
        made = self._call([s for _, s in jobs], out, source)
        shutil.rmtree(source)
        return made

    def imagine(self, settings):
        """The same from text alone."""
        out, count = self._folder("text"), str(len(settings))
        return self._call(settings, out, "--input-mode", "text", "--frames", count)
