"""PyTorch and diffusers on the same GPU, weights and frame as gpu_bench.

    peer.py MODEL SIZE [--mode eager|graph|reduce-overhead|max-autotune] [--device cuda] [--seconds N]
            [--compare FOLDER]

MODEL is a diffusers folder with a tiny autoencoder in taesd or vae. A frame is: u8 picture to the
device, encoder, noise, one step of the UNet, decoder, u8 picture back. fp16, channels last; "graph"
is eager in one CUDA graph, the other two are torch.compile's modes. Prints "MODE p50 ... ms"; with
--compare also how far our frame (gpu_bench dump FOLDER) is from PyTorch's.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

began = time.perf_counter()


def say(*words):
    print(f"[{time.perf_counter() - began:5.1f} s]", *words, flush=True)


class Frame:
    """What one frame does, on tensors of the device; static buffers, so that it can be captured."""

    def __init__(self, folder, size, device, dtype):
        taesd = folder / ("taesd" if (folder / "taesd").exists() else "vae")
        load = dict(torch_dtype=dtype)
        self.device, self.dtype = device, dtype
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet", **load)
        self.coder = AutoencoderTiny.from_pretrained(taesd, **load)
        for net in (self.unet, self.coder):
            net.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.texts = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype)
        self.texts.eval().to(device)
        self.tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.unet_call, self.encode, self.decode = (
            self.unet.forward,
            self.coder.encoder.forward,
            self.coder.decoder.forward,
        )
        self.scale = self.coder.config.scaling_factor
        rng = np.random.default_rng(1)
        latent = (1, self.unet.config.in_channels, size // 8, size // 8)
        self.picture = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=device)
        self.result = torch.zeros_like(self.picture)
        self.pinned = [torch.zeros(1, size, size, 3, dtype=torch.uint8) for _ in range(2)]
        if device != "cpu":
            self.pinned = [p.pin_memory() for p in self.pinned]
        self.pinned[0].copy_(torch.from_numpy(rng.integers(0, 256, (1, size, size, 3), np.uint8)))
        noise = torch.from_numpy(rng.standard_normal(latent, np.float32))
        self.set(noise, 599, (0.5, 0.87), (1.0, -0.5), "a photo of a cat")

    def set(self, noise, timestep, mix, denoise, prompt):
        self.noise = noise.to(self.device).contiguous(memory_format=torch.channels_last)
        self.timestep = torch.tensor([timestep], device=self.device)
        self.mix, self.denoise = mix, denoise
        ids = self.tokens(
            prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        ).input_ids
        self.states = self.texts(ids.to(self.device)).last_hidden_state.to(self.dtype)

    def compile(self, mode):
        for name in ("unet_call", "encode", "decode"):
            setattr(self, name, torch.compile(getattr(self, name), mode=mode, dynamic=False))

    def __call__(self):
        x = self.picture.permute(0, 3, 1, 2).to(self.dtype) / 127.5 - 1
        z = self.encode(x.contiguous(memory_format=torch.channels_last)).float() * self.scale
        x = self.mix[0] * z + self.mix[1] * self.noise
        out = self.unet_call(
            x.to(self.dtype), self.timestep, encoder_hidden_states=self.states, return_dict=False
        )[0]
        d = self.denoise[0] * x + self.denoise[1] * out.float()
        y = self.decode((d / self.scale).to(self.dtype)).float()
        self.result.copy_((y * 127.5 + 127.5).round().clamp(0, 255).permute(0, 2, 3, 1))

    def whole(self, run):
        self.picture.copy_(self.pinned[0], non_blocking=True)
        run()
        self.pinned[1].copy_(self.result, non_blocking=True)
        if self.device != "cpu":
            torch.cuda.synchronize()


def captured(frame):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            frame()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        frame()
    return graph.replay


def measure(frame, run, seconds):
    ms = []
    for _ in range(5):
        frame.whole(run)
    end = time.perf_counter() + seconds
    while len(ms) < 5 or time.perf_counter() < end and len(ms) < 2000:
        t = time.perf_counter()
        frame.whole(run)
        ms.append(1e3 * (time.perf_counter() - t))
    ms.sort()
    return statistics.median(ms), ms[int(0.99 * (len(ms) - 1))]


def compare(frame, folder):
    about = json.loads((folder / "frame.json").read_text())
    shape = frame.noise.shape
    noise = np.fromfile(folder / "noise.f32", np.float32).reshape(shape[0], *shape[2:], shape[1])
    noise = torch.from_numpy(noise).permute(0, 3, 1, 2)
    picture = torch.from_numpy(np.fromfile(folder / "in.u8", np.uint8)).view_as(frame.pinned[0])
    frame.pinned[0].copy_(picture)
    frame.set(noise, about["timestep"], about["noise"], about["denoise"], about["prompt"])
    frame.whole(frame)
    theirs = frame.pinned[1].numpy().astype(np.float64).ravel()
    ours = np.fromfile(folder / "out.u8", np.uint8).astype(np.float64)
    assert theirs.std() > 1, "PyTorch's picture is flat"
    return 10 * np.log10(255**2 / max(1e-9, np.mean((ours - theirs) ** 2)))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("size", type=int)
    p.add_argument("--mode", default="eager")
    p.add_argument("--device", default="cuda")
    p.add_argument("--seconds", type=float, default=5)
    p.add_argument("--compare", type=pathlib.Path)
    args = p.parse_args()
    dtype = torch.float32 if args.device == "cpu" else torch.float16
    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = True
    frame = Frame(args.model, args.size, args.device, dtype)
    say("loaded; torch", torch.__version__)
    if args.compare:
        say(f"our frame and PyTorch's: {compare(frame, args.compare):.1f} dB")
    run = frame
    if args.mode not in ("eager", "graph"):
        frame.compile(args.mode if args.device != "cpu" else None)
    elif args.mode == "graph":
        run = captured(frame)
    for _ in range(3):
        frame.whole(run)
    say("ready")
    median, worst = measure(frame, run, args.seconds)
    print(f"torch {args.mode}: p50 {median:.3f} p99 {worst:.3f} ms, {1e3 / median:.1f} fps")


if __name__ == "__main__":
    sys.exit(main())
