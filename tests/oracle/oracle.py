"""The oracle: checkpoints through PyTorch and through us; the error of every stage.

    oracle.py PROBE [--seed N] [--size tiny|full|all] [--models a,b] [--memory low] [--verbose]

Ends with one summary line; the status is 1 when a bar is missed. See README.md.
"""

import argparse
import ctypes
import gc
import os
import pathlib
import sys

import numpy as np
import torch

import cases
import checkpoints
import pipelines
import stream
import tokens
from probe import Probe
from reference import Model, step

NETWORK_BAR = 1e-4  # relative L2, fp32: the order of summation differs, nothing else
SCHEDULE_BAR = 1e-6  # coefficients: both in double, ours rounded to fp32 in the end
PIPELINE_SIZE = (256, 256)
STREAM_SIZE = (64, 72)
FRAME_BAR = 50.0  # dB; several steps multiply the network's error by 1 / alpha


class Report:
    def __init__(self, verbose):
        self.verbose, self.worst, self.missed, self.checks = verbose, {}, 0, 0

    def line(self, model, stage, value, bar, unit="", quiet=False):
        good = value >= bar if unit == "dB" else value <= bar
        self.checks += 1
        self.missed += not good
        if not quiet or self.verbose or not good:
            sign = ">=" if unit == "dB" else "<="
            figure = f"{value:9.1f} dB" if unit == "dB" else f"{value:12.2e}"
            print(
                f"{model:10} {stage:44} {figure} {sign} {bar:<8g} {'ok' if good else 'MISSED'}",
                flush=True,
            )

    def error(self, model, stage, ours, theirs, bar=NETWORK_BAR, kind=None, quiet=False):
        e = relative(ours, theirs)
        self.note(kind, e)
        self.line(model, stage, e, bar, quiet=quiet)

    def note(self, kind, value, best=max):
        if kind:
            self.worst[kind] = best(self.worst.get(kind, value), value)


def relative(ours, theirs):
    """Relative L2 error; a wrong shape or a number that is none is infinitely wrong."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return float("inf")
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-30))


def psnr(ours, theirs):
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return 0.0
    return float(min(-10 * np.log10(max(np.mean((ours - theirs) ** 2), 1e-20)), 200.0))


def release(ref, *names):
    """Drop networks and give their memory back to the system: ours needs it next."""
    ref.drop(*names)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def check_text(report, name, ref, probe):
    ids = [ref.ids(p) for p in cases.PROMPTS]
    for i, one in enumerate(ids):
        probe.ask("text", f"text{i}", ids=probe.give(f"ids{i}", np.array(one, np.int32)))
        if ref.xl:
            probe.ask("pooled", f"pooled{i}", ids=f"ids{i}")
    theirs = [ref.embed_ids(one) for one in ids]
    skips = not ref.xl and ref.text_encoder.config.num_hidden_layers > 1
    if skips:
        probe.ask("text", "skipped", ids="ids0", skip=1)
        skipped = ref.embed_skipping(ids[0], 1).numpy()[None]
    release(ref, "text_encoder", "text_encoder_2")
    probe.run()
    ours = np.concatenate([probe.get(f"text{i}")[0] for i in range(len(ids))])
    rows = torch.cat([rows for rows, _ in theirs]).numpy()
    report.error(name, "text embeddings", ours, rows, kind="text")
    if skips:
        report.error(name, "text, one layer less", probe.get("skipped"), skipped, kind="text")
    if ref.xl:
        ours = np.concatenate([probe.get(f"pooled{i}")[0, 0] for i in range(len(ids))])
        pooled = torch.cat([pooled for _, pooled in theirs]).numpy()
        report.error(name, "pooled text", ours, pooled, kind="text")


def pooled_width(config):
    """Of the pooled text that SDXL's UNet takes, before its six sizes."""
    return config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim


def check_unet(report, name, ref, probe, shapes, seed):
    config = ref.unet.config
    runs = []
    for i, (h, w, t, g) in enumerate(shapes):
        x = cases.normal((1, config.in_channels, h, w), seed + i)
        states = cases.normal((1, 77, config.cross_attention_dim), seed + 100 + i)
        cond = ref.guidance_embedding(g)
        pooled = cases.normal((1, pooled_width(config)), seed + 200 + i) if ref.xl else None
        y, taps = ref.taps(x, t, (states, pooled), cond)
        runs.append((f"unet {h}x{w} t={t}", cases.nhwc(y), taps))
        extra = dict(guidance=g) if cond is not None else {}
        if ref.xl:
            extra["pooled"] = probe.give(f"pooled{i}", pooled.numpy())
        probe.ask(
            "unet",
            f"unet{i}",
            x=probe.give(f"x{i}", cases.nhwc(x)),
            timestep=t,
            taps=True,
            states=probe.give(f"states{i}", states.numpy()),
            **extra,
        )
    release(ref, "unet")
    probe.run()
    for i, (label, y, taps) in enumerate(runs):
        report.error(name, label, probe.get(f"unet{i}"), y, kind="unet")
        compare_taps(report, name, label, probe.taps(f"unet{i}"), taps)


def compare_taps(report, name, label, ours, theirs):
    """Each part of the UNet; printed by block, each by itself when verbose or bad."""
    groups = {}
    for tap, y in theirs.items():
        y = cases.nhwc(y) if y.ndim == 4 else y.numpy()[:, None, None]
        e = relative(ours[tap], y) if tap in ours else float("inf")
        report.line(name, f"{label} {tap}", e, NETWORK_BAR, quiet=True)
        parts = tap.split(".")
        group = ".".join(parts[:2]) if parts[0].endswith("blocks") else parts[0]
        groups[group] = max(groups.get(group, 0.0), e)
    for group, e in groups.items():
        report.note("time" if group.endswith("_embedding") else "blocks", e)
        if not report.verbose:
            report.line(name, f"  {group}", e, NETWORK_BAR)


@torch.no_grad()
def check_autoencoder(report, name, ref, probe, sizes, seed, tiny):
    """In the networks' own ranges: TAESD's pictures are 0..1, AutoencoderKL's -1..1."""
    kind = "taesd" if tiny else "vae"
    net, runs = ref.autoencoder(tiny), []
    for i, (h, w) in enumerate(sizes):
        x = (
            torch.from_numpy(cases.picture(h, w, seed + i)).permute(2, 0, 1)[None].float() / 127.5
            - 1
        )
        z = cases.normal((1, net.config.latent_channels, h // 8, w // 8), seed + i)
        if tiny:
            y, back = net.encode(x).latents, net.decode(z).sample / 2 + 0.5
            x = x / 2 + 0.5
        else:
            z = z / net.config.scaling_factor
            y, back = net.encode(x).latent_dist.mode(), net.decode(z).sample
        runs.append((f"{h}x{w}", cases.nhwc(y), cases.nhwc(back)))
        probe.ask(
            "code", f"encode{i}", x=probe.give(f"p{i}", cases.nhwc(x)), tiny=tiny, encode=True
        )
        probe.ask(
            "code", f"decode{i}", x=probe.give(f"z{i}", cases.nhwc(z)), tiny=tiny, encode=False
        )
    release(ref, "vae", "taesd")
    probe.run()
    for i, (size, y, back) in enumerate(runs):
        report.error(name, f"{kind} encode {size}", probe.get(f"encode{i}"), y, kind=kind)
        report.error(name, f"{kind} decode {size}", probe.get(f"decode{i}"), back, kind=kind)


def check_schedule(report, name, ref, probe, seed):
    """Timesteps exactly, coefficients, and each step's arithmetic against LCMScheduler.step."""
    for i, c in enumerate(cases.SCHEDULES):
        probe.ask("plan", f"plan{i}", **c)
    probe.run()
    for i, c in enumerate(cases.SCHEDULES):
        label = "schedule " + " ".join(f"{k}={v}" for k, v in c.items())
        ours = probe.get(f"plan{i}")[0, 0]
        s, timesteps = ref.plan(c["steps"], c["strength"], c.get("indices"))
        if [int(t) for t in ours[:, 0]] != timesteps:
            report.line(name, f"{label} timesteps", float("inf"), 0.0)
            continue
        abar = s.alphas_cumprod[timesteps].numpy()
        e = max(relative(ours[:, 1], abar**0.5), relative(ours[:, 2], (1 - abar) ** 0.5))
        x, z = cases.normal((64,), seed), cases.normal((64,), seed + 1)
        for j, t in enumerate(timesteps):
            out = cases.normal((64,), seed + 2 + j)
            theirs = step(s, out, t, x, z)
            mine = ours[j, 5] * x + ours[j, 6] * out
            if j + 1 < len(timesteps):
                mine = ours[j + 1, 3] * mine + ours[j + 1, 4] * z
            e = max(e, relative(mine, theirs))
        report.note("schedule", e)
        report.line(name, label, e, SCHEDULE_BAR, quiet=True)


def check_noise(report, name, probe, seed):
    """Ours alone: mean, deviation, tails, independence between steps and between seeds."""
    probe.ask("noise", "noise", seed=seed, count=4, h=64, w=64)
    probe.ask("noise", "other", seed=seed + 1, count=1, h=64, w=64)
    probe.run()
    z, other = probe.get("noise").reshape(4, -1).astype(np.float64), probe.get("other").ravel()
    n = z.shape[1]
    off = np.corrcoef(np.vstack([z, other]))[np.triu_indices(5, 1)]
    sorted_z = np.sort(z.ravel())
    normal = torch.special.ndtr(torch.from_numpy(sorted_z)).numpy()
    ks = np.abs(normal - (np.arange(z.size) + 0.5) / z.size).max() * z.size**0.5
    # Five standard errors each; 1.95 is the Kolmogorov-Smirnov distance at one in a thousand.
    worst = max(
        abs(z.mean(1)).max() * n**0.5 / 5,
        abs(z.std(1) - 1).max() * (2 * n) ** 0.5 / 5,
        abs(off).max() * n**0.5 / 5,
        ks / 1.95,
    )
    report.line(name, "noise: mean, deviation, shape, correlation", worst, 1.0)


def check_frames(report, name, ref, probe, frames, seed):
    for i, (label, c) in enumerate(frames.items()):
        h, w = c["size"]
        count = len(c.get("indices") or range(c["steps"]))
        probe.ask("noise", f"noise{i}", seed=seed + i, count=count, h=h // 8, w=w // 8)
    probe.run()
    theirs = []
    for i, (label, c) in enumerate(frames.items()):
        noise = [cases.nchw(n[None]) for n in probe.get(f"noise{i}")]
        given = {k: v for k, v in c.items() if k not in ("size", "source", "text")}
        image = None if c.get("text") else cases.picture(*c.get("source", c["size"]), seed + i)
        theirs.append(ref.frame(noise, image=image, size=c["size"], **given))
        command = cases.frame_command(given, c["size"], seed + i)
        if image is not None:
            command["image"] = probe.give(f"image{i}", image)
        probe.ask("frame", f"frame{i}", **command)
    release(ref)
    probe.run()
    for i, (label, _) in enumerate(frames.items()):
        value = psnr(probe.get(f"frame{i}")[0], theirs[i])
        report.note("frames", value, best=min)
        report.line(name, f"frame: {label}", value, FRAME_BAR, unit="dB")


def check_pipelines(report, name, ref, probe, seed):
    """Latents and pictures of diffusers' own pipelines, which load the folder by themselves."""
    image = cases.picture(*PIPELINE_SIZE, seed)
    theirs = list(pipelines.frames(ref, probe, image, seed))
    probe.give("image", image)
    for label, command, _, _ in theirs:
        for do in ("latent", "frame"):
            probe.ask(do, f"{do} {label}", **command)
    probe.run()
    for label, _, z, y in theirs:
        report.error(name, f"pipeline latent: {label}", probe.get(f"latent {label}"), z)
        value = psnr(probe.get(f"frame {label}")[0], y)
        report.note("frames", value, best=min)
        report.line(name, f"pipeline frame: {label}", value, FRAME_BAR, unit="dB")


def check_streams(report, name, ref, probe, seed):
    """Twelve frames through the stream batch, call by call: latents before the decoder, and pictures."""
    h, w = STREAM_SIZE
    film = cases.film(h, w, cases.STREAM_FRAMES, seed)
    probe.ask("noise", "noise", seed=seed, count=4, h=h // 8, w=w // 8)
    probe.run()
    noise = [cases.nchw(n[None]) for n in probe.get("noise")]
    theirs = {}
    probe.give("film", film)
    for label, case in cases.STREAMS.items():
        count = len(case.get("indices") or case.get("timesteps") or range(case.get("steps", 1)))
        given = {k: v for k, v in case.items() if k != "batch"}
        theirs[label] = stream.Stream(ref, noise[:count], **given).run(film)
        for do in ("latents", "stream"):
            probe.ask(do, f"{do} {label}", image="film", **stream.command(case, STREAM_SIZE, seed))
    release(ref)
    probe.run()
    for label, (z, y) in theirs.items():
        if not cases.STREAMS[label].get("batch", True):
            late = (cases.STREAMS[label]["steps"] - 1) * cases.STREAMS[label].get("frames", 1)
            z, y = z[late:], y[late:]
        ours = probe.get(f"latents {label}")[: len(z)]
        report.error(name, f"stream latents: {label}", ours, cases.nhwc(z), kind="stream")
        value = psnr(probe.get(f"stream {label}")[: len(y)], y)
        report.note("frames", value, best=min)
        report.line(name, f"stream: {label}", value, FRAME_BAR, unit="dB")


def check_model(report, name, args):
    folder = checkpoints.folder(name, args.seed, args.cache)
    ref, probe = Model(folder), Probe(args.probe, folder, args.memory)
    tiny = name.startswith("tiny")
    seed = args.seed * 1000
    check_schedule(report, name, ref, probe, seed)
    check_noise(report, name, probe, args.seed)
    check_text(report, name, ref, probe)
    check_unet(report, name, ref, probe, cases.UNETS.get(name, cases.TINY_UNETS), seed)
    sizes = [(64, 64), (72, 40)] if tiny else [(256, 192)]
    for kind in sorted({ref.is_tiny(False), ref.is_tiny(True)}):
        check_autoencoder(report, name, ref, probe, sizes, seed, kind)
    check_frames(report, name, ref, probe, cases.TINY_FRAMES if tiny else cases.FULL_FRAMES, seed)
    if tiny or name == checkpoints.SHIPPED:
        check_streams(report, name, ref, probe, seed)
    if name == checkpoints.SHIPPED or ref.xl:
        check_pipelines(report, name, ref, probe, seed)


def main():
    cache = (
        pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
        / "scope-oracle"
    )
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("probe", type=pathlib.Path)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--size", choices=("tiny", "full", "all"), default="all")
    p.add_argument("--models", help="only these, comma-separated")
    p.add_argument("--memory", choices=("normal", "low"), default="normal")
    p.add_argument("--cache", type=pathlib.Path, default=cache)
    p.add_argument("--verbose", action="store_true")
    args = p.parse_args()
    names = [
        n
        for n in checkpoints.NAMES
        if (args.size == "all" or n.startswith("tiny") == (args.size == "tiny"))
    ]
    if args.models:
        names = args.models.split(",")
    report = Report(args.verbose)
    for name in names:
        check_model(report, name, args)
    exact, total = tokens.check(args)
    report.line("tokenizer", f"{exact} of {total} strings exact", float(total - exact), 0.0)
    figures = ", ".join(
        f"{k} {v:.1f} dB" if k == "frames" else f"{k} {v:.1e}" for k, v in report.worst.items()
    )
    verdict = "all bars held" if not report.missed else f"{report.missed} BARS MISSED"
    print(
        f"oracle: seed {args.seed}, {len(names)} models, {report.checks} checks, worst {figures}, "
        f"tokens {exact}/{total}: {verdict}"
    )
    sys.exit(1 if report.missed else 0)


if __name__ == "__main__":
    main()
