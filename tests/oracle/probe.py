"""Runs probe (our networks) on tensors and JSON commands; see probe.c."""

import json
import pathlib
import subprocess
import tempfile

import numpy as np
from safetensors.numpy import save_file


class Probe:
    """Collects commands and their inputs, runs them in one process, then hands out the results."""

    def __init__(self, binary, folder, memory="normal"):
        self.binary, self.folder, self.memory = binary, folder, memory
        self.inputs, self.commands = {}, []
        self.scratch = tempfile.TemporaryDirectory(prefix="scope-oracle-")

    def give(self, name, array):
        self.inputs[name] = np.ascontiguousarray(array)
        return name

    def ask(self, do, id, **fields):
        self.commands.append(dict(do=do, id=id, **fields))

    def run(self):
        out = pathlib.Path(self.scratch.name)
        save_file(self.inputs or {"none": np.zeros(1, np.float32)}, out / "input.safetensors")
        lines = "".join(json.dumps(c, ensure_ascii=False) + "\n" for c in self.commands)
        done = subprocess.run(
            [self.binary, self.folder, out / "input.safetensors", out, self.memory],
            input=lines.encode("utf-8", "surrogatepass"),
            stderr=subprocess.PIPE,
        )
        if done.returncode:
            text = (
                done.stderr.decode(errors="replace").strip()
                or f"killed by signal {-done.returncode}"
            )
            raise SystemExit(f"{text}\n(model {self.folder})")
        self.commands.clear()
        self.inputs.clear()

    def get(self, id):
        return np.load(pathlib.Path(self.scratch.name) / f"{id}.npy")

    def taps(self, id):
        """{block name: array} of a unet command that was asked for taps."""
        paths = pathlib.Path(self.scratch.name).glob(f"{id}.*.npy")
        return {p.name[len(id) + 1 : -4]: np.load(p) for p in paths}
