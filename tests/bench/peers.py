"""The peers of `make bench`: PyTorch eager and ONNX Runtime on the same weights and frame.

    peers.py torch|onnx|export MODEL CACHE SIZE FRAMES THREADS

MODEL is a diffusers folder with a taesd; CACHE keeps the exported networks. One process measures one
engine at one size, so that its peak memory is its own; "export" comes before "onnx". Prints lines of "ENGINE SIZE WHAT FIGURE": text,
encode, unet, decode and frame in ms (medians), load in ms, peak in MiB.
"""

import argparse
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


def coefficients():
    beta = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    abar = np.cumprod(1 - beta)[TIMESTEP]
    return float(abar**0.5), float((1 - abar) ** 0.5)


def classes():
    from diffusers import AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel

    return CLIPTextModel, UNet2DConditionModel, AutoencoderTiny


def modules(folder):
    import torch

    names = ("text_encoder", "unet", "taesd")
    return [
        c.from_pretrained(folder / n, torch_dtype=torch.float32).eval()
        for c, n in zip(classes(), names)
    ]


def run_frames(engine, size, frames):
    """Times `frames` whole frames; engine has text, encode, unet, decode over its own arrays."""
    clock, rng = Clock(), np.random.default_rng(1)
    picture = rng.integers(0, 256, (size, size, 3), np.uint8)
    noise = engine.array(rng.standard_normal((1, 4, size // 8, size // 8), np.float32))
    ids = np.full((1, 77), 49407 if engine.vocabulary > 49407 else 1, np.int64)
    a, s = coefficients()
    for _ in range(2):
        states = clock("text", engine.text, ids)

    def frame():
        x = engine.array(picture.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1)
        x = a * clock("encode", engine.encode, x) + s * noise
        x = (x - s * clock("unet", engine.unet, x, states)) / a
        y = engine.numpy(clock("decode", engine.decode, x))
        return np.clip(np.rint(y * 127.5 + 127.5), 0, 255).astype(np.uint8)[0].transpose(1, 2, 0)

    for _ in range(WARMUP + frames):
        clock("frame", frame)
    result = clock.medians(WARMUP)
    assert np.isfinite(engine.numpy(states)).all()
    return result


class Torch:
    def __init__(self, folder, layout):
        import torch

        self.torch, self.layout = torch, layout
        self.parts = modules(folder)
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
    engine = Torch(args.model, torch.contiguous_format)
    load = 1e3 * (time.perf_counter() - start)
    with torch.inference_mode():
        runs = [run_frames(engine, args.size, args.frames)]
        engine.use(torch.channels_last)
        runs.append(run_frames(engine, args.size, args.frames))
    return dict({k: min(r[k] for r in runs) for k in runs[0]}, load=load)


def export(args):
    """Each network as ONNX with its weights beside it, once per model and size: shapes are fixed."""
    import torch

    folder = args.cache / f"onnx-{args.size}"
    if (folder / "complete").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    text, unet, taesd = modules(args.model)

    class Plain(torch.nn.Module):
        """A network that takes and gives tensors alone."""

        def __init__(self, net, take):
            super().__init__()
            self.net, self.take = net, take

        def forward(self, *x):
            return self.take(self.net(*x))

    side, width = args.size // 8, unet.config.cross_attention_dim
    latent = torch.zeros(1, 4, side, side)
    jobs = {
        "text": (text, lambda y: y.last_hidden_state, (torch.ones(1, 77, dtype=torch.int64),)),
        "unet": (
            unet,
            lambda y: y.sample,
            (latent, torch.tensor([TIMESTEP]), torch.zeros(1, 77, width)),
        ),
        "encode": (taesd.encoder, lambda y: y, (torch.zeros(1, 3, args.size, args.size),)),
        "decode": (taesd.decoder, lambda y: y, (latent,)),
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
    (folder / "complete").write_text(str(text.config.vocab_size))
    return folder


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
        self.vocabulary = int((folder / "complete").read_text())

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
    folder = args.cache / f"onnx-{args.size}"
    start = time.perf_counter()
    engine = Onnx(folder, args.threads)
    load = 1e3 * (time.perf_counter() - start)
    return dict(run_frames(engine, args.size, args.frames), load=load)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("engine", choices=("torch", "onnx", "export"))
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("cache", type=pathlib.Path)
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
        print(f"{args.engine} {args.size} {what} {figure:.3f}")


if __name__ == "__main__":
    main()
