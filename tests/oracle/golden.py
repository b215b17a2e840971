"""Writes tests/golden/networks, tests/golden/stream or tests/golden/tiny: commands of stages.h, and PyTorch's answers.

    golden.py PROBE networks    tiny random checkpoints, each with the answers beside its weights
    golden.py PROBE stream      frames of the stream batch on the same checkpoints
    golden.py PROBE tiny        the answers of diffusers' pipelines on the model that ships

Of a golden.safetensors, "commands" is a JSON array (as bytes), every other tensor is a command's input,
or "ID.y", what PyTorch made of command ID. Pictures are u8. The probe is asked for noise only.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

import cases
import checkpoints
import pipelines
import stream
from probe import Probe
from oracle import pooled_width
from reference import Model, step

SEED = 7
SIZE = (48, 40)  # of frames: an odd latent, 6 x 5
CODED = (24, 40)  # of the pictures that the autoencoders code
SHIPPED_SIZE = (64, 80)
TEXTS = ["a photo of a cat", "", "Café 雨 👍🏽's  rock'n'roll\t42!", "!" * 90]


class Golden:
    def __init__(self):
        self.tensors, self.commands = {}, []

    def give(self, name, array):
        self.tensors[name] = np.ascontiguousarray(array)
        return name

    def expect(self, do, id, y, **fields):
        self.commands.append(dict(do=do, id=id, **fields))
        self.give(f"{id}.y", y)

    def save(self, path):
        text = json.dumps(self.commands, ensure_ascii=False).encode()
        save_file(dict(self.tensors, commands=np.frombuffer(text, np.uint8)), path)


def picture(y):
    return np.round(y * 255).astype(np.uint8)


def tokens(g, ref):
    ids = [ref.ids(t) for t in TEXTS]
    g.expect("tokens", "tokens", np.array(ids, np.float32)[None, None], texts=TEXTS)
    return ids


def text(g, ref):
    ids = tokens(g, ref)
    rows, pooled = ref.embed_ids(ids[0])
    g.give("ids", np.array(ids[0], np.int32))
    g.expect("text", "text", rows.numpy()[None], ids="ids")
    if ref.xl:
        g.expect("pooled", "pooled", pooled.numpy()[None, None], ids="ids")


def unet(g, ref):
    config = ref.unet.config
    states = cases.normal((1, 77, config.cross_attention_dim), SEED)
    g.give("states", states.numpy())
    pooled, more = None, {}
    if ref.xl:
        pooled = cases.normal((1, pooled_width(config)), SEED)
        more["pooled"] = g.give("pooled", pooled.numpy())
    for i, (h, w, t, guidance) in enumerate(cases.TINY_UNETS):
        x = cases.normal((1, config.in_channels, h, w), SEED + i)
        y = ref.denoise(x, t, (states, pooled), ref.guidance_embedding(guidance))
        g.expect(
            "unet",
            f"unet{i}",
            cases.nhwc(y),
            x=g.give(f"x{i}", cases.nhwc(x)),
            timestep=t,
            guidance=guidance,
            states="states",
            **more,
        )


@torch.no_grad()
def autoencoder(g, ref, tiny):
    net, kind = ref.autoencoder(tiny), "taesd" if tiny else "vae"
    h, w = CODED
    x = torch.from_numpy(cases.picture(h, w, SEED)).permute(2, 0, 1)[None].float() / 127.5 - 1
    z = cases.normal((1, net.config.latent_channels, h // 8, w // 8), SEED)
    if tiny:
        y, back, x = net.encode(x).latents, net.decode(z).sample / 2 + 0.5, x / 2 + 0.5
    else:
        y, back = net.encode(x).latent_dist.mode(), net.decode(z).sample
    g.expect(
        "code",
        f"{kind} encode",
        cases.nhwc(y),
        tiny=tiny,
        encode=True,
        x=g.give(f"{kind} picture", cases.nhwc(x)),
    )
    g.expect(
        "code",
        f"{kind} decode",
        cases.nhwc(back),
        tiny=tiny,
        encode=False,
        x=g.give(f"{kind} latent", cases.nhwc(z)),
    )


def schedule(g, ref):
    """One row a step, as stages.h says. The coefficients are read off LCMScheduler.step itself."""
    for i, c in enumerate(cases.SCHEDULES[2::4]):
        s, timesteps = ref.plan(c["steps"], c["strength"], c.get("indices"))
        rows = []
        for t in timesteps:
            one, zero = torch.ones(1), torch.zeros(1)
            s.num_inference_steps, s.timesteps, s._step_index = 1, torch.tensor([t]), None
            a = float(s.alphas_cumprod[t]) ** 0.5
            b = (1 - float(s.alphas_cumprod[t])) ** 0.5
            from_x = float(step(s, zero, t, one, None))
            s._step_index = None
            from_out = float(step(s, one, t, zero, None))
            rows.append([t, a, b, a, b, from_x, from_out])
        g.expect("plan", f"plan{i}", np.array(rows, np.float32)[None, None], **c)


def frames(g, ref, probe):
    """The noise, as it is today on every machine, and what PyTorch makes of it."""
    h, w = SIZE
    probe.ask("noise", "noise", seed=SEED, count=4, h=h // 8, w=w // 8)
    probe.run()
    drawn = probe.get("noise")
    g.expect("noise", "noise", drawn, seed=SEED, count=4, h=h // 8, w=w // 8)
    noise = [cases.nchw(n[None]) for n in drawn]
    g.give("image", cases.picture(h, w, SEED))
    g.give("large image", cases.picture(h + 23, w + 44, SEED))
    for label, case in cases.TINY_FRAMES.items():
        given = {k: v for k, v in case.items() if k not in ("size", "source", "text")}
        name = "large image" if "source" in case else "image"
        image = None if case.get("text") else g.tensors[name]
        y = ref.frame(noise, image=image, size=SIZE, **given)
        command = cases.frame_command(given, SIZE, SEED)
        if image is not None:
            command["image"] = name
        g.expect("frame", f"frame {label}", picture(y), **command)


def pipeline(g, ref, probe, image):
    """What diffusers' own pipelines make of the folder, which they load unchanged."""
    for label, command, z, y in pipelines.frames(ref, probe, image, SEED):
        g.expect("latent", f"latent {label}", z, **command)
        g.expect("frame", f"frame by pipeline {label}", picture(y), **command)


def finish(g, folder):
    g.save(folder / "golden.safetensors")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{folder}: {len(g.commands)} commands, {size} bytes")


def networks(binary, root):
    for name in (n for n in checkpoints.MODELS if n.startswith("tiny")):
        folder = root / name.removeprefix("tiny-")
        shutil.rmtree(folder, ignore_errors=True)
        # Two bytes a weight: one folder in bf16, the others in fp16.
        checkpoints.write(
            name, folder, SEED, torch.bfloat16 if name == "tiny-lcm" else torch.float16
        )
        ref, g = Model(folder), Golden()
        text(g, ref)
        unet(g, ref)
        kinds = {ref.is_tiny(False), ref.is_tiny(True)}
        for tiny in sorted(kinds):
            autoencoder(g, ref, tiny)
        schedule(g, ref)
        frames(g, ref, Probe(binary, folder))
        if ref.xl:
            pipeline(g, ref, Probe(binary, folder), g.tensors["image"])
        finish(g, folder)


def streams(binary, root):
    """Twelve frames through the stream batch: latents of every case, and pictures of one."""
    networks_root = root.parent / "networks"
    for name in ("sd1", "sd2"):
        ref, probe, g = Model(networks_root / name), Probe(binary, networks_root / name), Golden()
        h, w = SIZE
        probe.ask("noise", "noise", seed=SEED, count=4, h=h // 8, w=w // 8)
        probe.run()
        noise = [cases.nchw(n[None]) for n in probe.get("noise")]
        g.give("film", cases.film(h, w, cases.STREAM_FRAMES, SEED))
        for label, case in cases.STREAMS.items():
            if not case.get("batch", True):
                continue  # it has other frames: test_stream.c compares the two ways
            count = len(case.get("indices") or case.get("timesteps") or range(case.get("steps", 1)))
            z, y = stream.Stream(ref, noise[:count], **case).run(g.tensors["film"])
            command = dict(stream.command(case, SIZE, SEED), image="film")
            g.expect("latents", f"latents {label}", cases.nhwc(z), **command)
            if label == "4 steps, 2 frames a call":
                g.expect("stream", f"stream {label}", picture(y), **command)
        (root / name).mkdir(parents=True, exist_ok=True)
        finish(g, root / name)


def shipped(binary, root):
    folder, g = checkpoints.SHIPPED_FOLDER, Golden()
    ref, probe = Model(folder), Probe(binary, folder)
    tokens(g, ref)
    g.give("image", cases.picture(*SHIPPED_SIZE, SEED))
    pipeline(g, ref, probe, g.tensors["image"])
    root.mkdir(exist_ok=True)
    finish(g, root)


def main():
    binary, what = sys.argv[1:]
    write = {"networks": networks, "stream": streams, checkpoints.SHIPPED: shipped}[what]
    write(binary, pathlib.Path(__file__).parents[1] / "golden" / what)


if __name__ == "__main__":
    main()
