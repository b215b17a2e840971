"""The peers of `make bench`: PyTorch eager and ONNX Runtime on the same weights and frame.

    peers.py torch|onnx|export MODEL EXPORTED SIZE FRAMES THREADS

MODEL is a diffusers folder with a tiny autoencoder in taesd or vae; the folder EXPORTED keeps its
networks as ONNX. One process measures one engine at one size, so that its peak memory is its own;
"export" comes before "onnx". Prints lines of "WHAT FIGURE": text, encode, unet, decode and frame in ms
(medians), load in ms, peak in MiB.
"""

import argparse
import json
import pathlib
import resource
import statistics
import time

import numpy as np

TIMESTEP, WARMUP = 599, 1


class Clock:
    def __init__(self):
        self.ms = {}

    def __call__(self, name, f, *args):
        start = time.perf_counter()
        result = f(*args)
        self.ms.setdefault(name, []).append(1e3 * (time.perf_counter() - start))
        return result

    def medians(self, skip):
        return {k: statistics.median(v[skip:] or v) for k, v in self.ms.items()}


def coefficients(folder):
    """a and s of x_t = a x_0 + s noise; c and d of x_0 = c x_t + d output."""
    schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    ends = schedule["beta_start"] ** 0.5, schedule["beta_end"] ** 0.5
    alpha = np.cumprod(1 - np.linspace(*ends, schedule["num_train_timesteps"]) ** 2) ** 0.5
    if schedule.get("rescale_betas_zero_snr"):
        alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    a = float(alpha[TIMESTEP])
    s = (1 - a * a) ** 0.5
    if schedule["prediction_type"] == "v_prediction":
        return a, s, a, -s
    return a, s, 1 / a, -s / a


def taesd(folder):
    return folder / ("taesd" if (folder / "taesd").exists() else "vae")


def classes():
    from diffusers import AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel

    return CLIPTextModel, UNet2DConditionModel, AutoencoderTiny


def modules(folder):
    import torch

    parts = (folder / "text_encoder", folder / "unet", taesd(folder))
    return [
        c.from_pretrained(p, torch_dtype=torch.float32).eval() for c, p in zip(classes(), parts)
    ]


def run_frames(engine, args):
    """Times whole frames; engine has text, encode, unet, decode over its own arrays."""
    size = args.size
    clock, rng = Clock(), np.random.default_rng(1)
    picture = rng.integers(0, 256, (size, size, 3), np.uint8)
    noise = engine.array(rng.standard_normal(engine.latent, np.float32))
    ids = np.full((1, 77), 49407 if engine.vocabulary > 49407 else 1, np.int64)
    a, s, c, d = coefficients(args.model)
    for _ in range(2):
        states = clock("text", engine.text, ids)

    def frame():
        x = engine.array(picture.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1)
        x = a * clock("encode", engine.encode, x) + s * noise
        x = c * x + d * clock("unet", engine.unet, x, states)
        y = engine.numpy(clock("decode", engine.decode, x))
        return np.clip(np.rint(y * 127.5 + 127.5), 0, 255).astype(np.uint8)[0].transpose(1, 2, 0)

    for _ in range(WARMUP + args.frames):
        clock("frame", frame)
    result = clock.medians(WARMUP)
    assert np.isfinite(engine.numpy(states)).all()
    return result


class Torch:
    def __init__(self, args, layout):
        import torch

        self.torch, self.layout = torch, layout
        self.parts = modules(args.model)
        self.latent = (1, self.parts[1].config.in_channels, args.size // 8, args.size // 8)
        self.vocabulary = self.parts[0].config.vocab_size
        self.use(layout)

    def use(self, layout):
        self.layout = layout
        for p in self.parts[1:]:
            p.to(memory_format=layout)

    def array(self, x):
        return self.torch.from_numpy(x).to(memory_format=self.layout)

    def numpy(self, x):
        return x.numpy()

    def text(self, ids):
        return self.parts[0](self.torch.from_numpy(ids)).last_hidden_state

    def encode(self, x):
        return self.parts[2].encode(x).latents

    def unet(self, x, states):
        return self.parts[1](x, self.torch.tensor([TIMESTEP]), encoder_hidden_states=states).sample

    def decode(self, x):
        return self.parts[2].decode(x).sample


def measure_torch(args):
    """Both memory layouts; for each stage the better one, and the better whole frame."""
    import torch

    torch.set_num_threads(args.threads)
    classes()  # importing is not loading
    start = time.perf_counter()
    engine = Torch(args, torch.contiguous_format)
    load = 1e3 * (time.perf_counter() - start)
    with torch.inference_mode():
        runs = [run_frames(engine, args)]
        engine.use(torch.channels_last)
        runs.append(run_frames(engine, args))
    return dict({k: min(r[k] for r in runs) for k in runs[0]}, load=load)


def export(args):
    """Each network as ONNX with its weights beside it, for one model and size: shapes are fixed."""
    import torch

    folder, done = args.exported, args.exported / "complete"
    shapes = args.model / "unet" / "config.json"
    if done.exists() and done.stat().st_mtime > shapes.stat().st_mtime:
        return
    folder.mkdir(parents=True, exist_ok=True)
    text, unet, coder = modules(args.model)

    class Plain(torch.nn.Module):
        """A network that takes and gives tensors alone."""

        def __init__(self, net, take):
            super().__init__()
            self.net, self.take = net, take

        def forward(self, *x):
            return self.take(self.net(*x))

    side, width = args.size // 8, unet.config.cross_attention_dim
    latent = torch.zeros(1, unet.config.in_channels, side, side)
    jobs = {
        "text": (text, lambda y: y.last_hidden_state, (torch.ones(1, 77, dtype=torch.int64),)),
        "unet": (
            unet,
            lambda y: y.sample,
            (latent, torch.tensor([TIMESTEP]), torch.zeros(1, 77, width)),
        ),
        "encode": (coder.encoder, lambda y: y, (torch.zeros(1, 3, args.size, args.size),)),
        "decode": (coder.decoder, lambda y: y, (latent,)),
    }
    for name, (net, take, example) in jobs.items():
        with torch.inference_mode(False), torch.no_grad():
            torch.onnx.export(
                Plain(net, take),
                example,
                folder / f"{name}.onnx",
                dynamo=True,
                external_data=name in ("unet", "text"),
                verbose=False,
            )
    done.write_text(json.dumps(dict(vocabulary=text.config.vocab_size, latent=list(latent.shape))))


class Onnx:
    def __init__(self, folder, threads):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = {
            n: ort.InferenceSession(
                str(folder / f"{n}.onnx"), options, providers=["CPUExecutionProvider"]
            )
            for n in ("text", "unet", "encode", "decode")
        }
        about = json.loads((folder / "complete").read_text())
        self.vocabulary, self.latent = about["vocabulary"], about["latent"]

    def run(self, name, *values):
        session = self.session[name]
        return session.run(None, dict(zip((i.name for i in session.get_inputs()), values)))[0]

    def array(self, x):
        return np.ascontiguousarray(x, np.float32)

    def numpy(self, x):
        return x

    def text(self, ids):
        return self.run("text", ids)

    def encode(self, x):
        return self.run("encode", x)

    def unet(self, x, states):
        return self.run("unet", self.array(x), np.array([TIMESTEP], np.int64), states)

    def decode(self, x):
        return self.run("decode", self.array(x))


def measure_onnx(args):
    start = time.perf_counter()
    engine = Onnx(args.exported, args.threads)
    load = 1e3 * (time.perf_counter() - start)
    return dict(run_frames(engine, args), load=load)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("engine", choices=("torch", "onnx", "export"))
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("exported", type=pathlib.Path)
    p.add_argument("size", type=int)
    p.add_argument("frames", type=int)
    p.add_argument("threads", type=int)
    args = p.parse_args()
    if args.engine == "export":
        export(args)
        return
    figures = {"torch": measure_torch, "onnx": measure_onnx}[args.engine](args)
    # ru_maxrss: KiB of this process at its largest, weights and runtime included.
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for what, figure in figures.items():
        print(f"{what} {figure:.3f}")


if __name__ == "__main__":
    main()
