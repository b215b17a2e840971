"""LoRA files in every format for a tiny model, and what diffusers and PEFT make of them.

    lora.py OUT [MODEL_FOLDER]      writes OUT/*.safetensors; tests/golden/lora by default

MODEL_FOLDER is tests/golden/networks/sd1 unless it is given. Of golden.safetensors, "commands" is a JSON
array; a command is one of stages.h with "loras": [[file, scale], ...]; every other tensor is an input
or "ID.y", the answer. The files are loaded, weighed and fused by diffusers in fp32, and the fused
weights rounded to the checkpoint's type, as we do. DoRA is merged by
PEFT, and only the middle factor of LoCon, which both refuse, is multiplied out here.
"""

import copy
import json
import pathlib
import re
import sys

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import load_file, save_file

import transformers.integrations.peft as bridge

import cases
from reference import Model

# transformers asks for a newer PEFT than it needs for what is done here.
bridge.check_peft_version = lambda *_, **__: None

ROOT = pathlib.Path(__file__).parents[1]
SEED = 11
TEXT = "a photo of a cat"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
LINEAR = ATTENTION + ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "time_emb_proj")
CONV = ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv")
CLIP = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def modules(net, ends):
    return {
        n: m.weight
        for n, m in net.named_modules()
        if hasattr(m, "weight") and any(n == e or n.endswith("." + e) for e in ends)
    }


def clip_name(name):
    return name if name.startswith("text_model.") else f"text_model.{name}"


class Maker:
    """Random factors, of a size that changes the picture and does not drown it."""

    def __init__(self, seed, dtype=torch.float32):
        self.g, self.dtype = torch.Generator().manual_seed(seed), dtype

    def draw(self, *shape, std):
        return (torch.randn(*shape, generator=self.g) * std).to(self.dtype)

    def factors(self, weight, rank):
        out, rest = weight.shape[0], tuple(weight.shape[1:])
        up = self.draw(out, rank, *([1] * (len(rest) - 1)), std=0.6 / rank**0.5)
        down = self.draw(rank, *rest, std=0.6 / (weight[0].numel() ** 0.5))
        return up, down


def kohya(make, unet, text, rank, alpha):
    state = {}
    for prefix, net, ends in (("lora_unet_", unet, LINEAR + CONV), ("lora_te_", text, CLIP)):
        for name, weight in modules(net, ends).items() if net else ():
            name = prefix + (clip_name(name) if net is text else name).replace(".", "_")
            state[f"{name}.lora_up.weight"], state[f"{name}.lora_down.weight"] = make.factors(
                weight, rank
            )
            state[f"{name}.alpha"] = torch.tensor(float(alpha)).to(make.dtype)
    return state


def with_magnitudes(make, state, nets):
    """kohya's with a dora_scale for each linear map."""
    for prefix, net, name_of in nets:
        for name, weight in modules(net, ATTENTION + CLIP).items():
            key = prefix + name_of(name).replace(".", "_")
            if f"{key}.alpha" in state:
                norm = weight.reshape(weight.shape[0], -1).norm(dim=1, keepdim=True)
                state[f"{key}.dora_scale"] = norm * (
                    1 + 0.2 * torch.rand(norm.shape, generator=make.g)
                )
    return state


def original_blocks(state):
    """The same under the original code's block names; one resnet in a block of this model."""
    inner = {
        "conv1": "in_layers_2",
        "conv2": "out_layers_3",
        "time_emb_proj": "emb_layers_1",
        "conv_shortcut": "skip_connection",
    }

    def rename(key):
        key = re.sub(
            r"(resnets_\d+)_(conv1|conv2|time_emb_proj|conv_shortcut)",
            lambda m: f"{m[1]}_{inner[m[2]]}",
            key,
        )
        key = re.sub(
            r"down_blocks_(\d+)_resnets_0", lambda m: f"input_blocks_{1 + 2 * int(m[1])}_0", key
        )
        key = re.sub(
            r"down_blocks_(\d+)_attentions_0", lambda m: f"input_blocks_{1 + 2 * int(m[1])}_1", key
        )
        key = re.sub(
            r"down_blocks_(\d+)_downsamplers_0_conv",
            lambda m: f"input_blocks_{2 + 2 * int(m[1])}_0_op",
            key,
        )
        key = re.sub(
            r"mid_block_resnets_(\d+)", lambda m: f"middle_block_{2 * int(m[1])}", key
        ).replace("mid_block_attentions_0", "middle_block_1")
        key = re.sub(
            r"up_blocks_(\d+)_resnets_(\d+)",
            lambda m: f"output_blocks_{2 * int(m[1]) + int(m[2])}_0",
            key,
        )
        key = re.sub(
            r"up_blocks_(\d+)_attentions_(\d+)",
            lambda m: f"output_blocks_{2 * int(m[1]) + int(m[2])}_1",
            key,
        )
        return key.replace("up_blocks_0_upsamplers_0", "output_blocks_1_1")

    return {rename(k): v for k, v in state.items()}


def old_diffusers(make, unet, rank):
    state = {}
    for name, weight in modules(unet, ATTENTION).items():
        at, end = name.removesuffix(".0").rsplit(".", 1)
        key = f"unet.{at}.processor.{end}_lora"
        state[f"{key}.up.weight"], state[f"{key}.down.weight"] = make.factors(weight, rank)
    return state


def locon_mid(make, unet, rank):
    state = {}
    for name, weight in modules(unet, ("conv1", "conv2")).items():
        key = "lora_unet_" + name.replace(".", "_")
        out, inner = weight.shape[:2]
        state[f"{key}.lora_up.weight"] = make.draw(out, rank, 1, 1, std=0.5)
        state[f"{key}.lora_mid.weight"] = make.draw(rank, rank, 3, 3, std=0.3)
        state[f"{key}.lora_down.weight"] = make.draw(rank, inner, 1, 1, std=0.6 / inner**0.5)
        state[f"{key}.alpha"] = torch.tensor(rank / 2.0)
    return state


def peft(make, pipe, folder):
    """By PEFT and diffusers themselves, with alpha in the metadata alone."""
    unet = LoraConfig(r=3, lora_alpha=5, target_modules=["to_q", "to_v", "ff.net.2", "conv1"])
    text = LoraConfig(r=2, lora_alpha=1, target_modules=["q_proj", "v_proj", "fc1"])
    pipe.unet.add_adapter(unet)
    pipe.text_encoder.add_adapter(text)
    layers = {}
    for key, net in (("unet", pipe.unet), ("text", pipe.text_encoder)):
        for name, p in net.named_parameters():
            if ".lora_" in name:
                p.data = make.draw(*p.shape, std=0.6 / p[0].numel() ** 0.5)
        layers[f"{key}_state"] = get_peft_model_state_dict(net)
    for config in (unet, text):
        config.base_model_name_or_path = None  # a folder of this machine
    pipe.save_lora_weights(
        folder,
        unet_lora_layers=layers["unet_state"],
        text_encoder_lora_layers=layers["text_state"],
        weight_name="peft.safetensors",
        unet_lora_adapter_metadata=unet.to_dict(),
        text_encoder_lora_adapter_metadata=text.to_dict(),
    )


def pipeline(model):
    return StableDiffusionPipeline.from_pretrained(
        model, torch_dtype=torch.float32, safety_checker=None, feature_extractor=None
    )


def files(out, model):
    pipe = pipeline(model)
    unet, text = pipe.unet, pipe.text_encoder
    nets = (("lora_unet_", unet, str), ("lora_te_", text, clip_name))
    save_file(kohya(Maker(1, torch.float16), unet, text, 4, 2), out / "kohya.safetensors")
    save_file(original_blocks(kohya(Maker(2), unet, None, 2, 3)), out / "blocks.safetensors")
    dora = kohya(Maker(3), unet, text, 2, 2)
    dora = {k: v for k, v in dora.items() if "attn" in k}
    save_file(with_magnitudes(Maker(4), dora, nets), out / "dora.safetensors")
    save_file(old_diffusers(Maker(5), unet, 3), out / "old.safetensors")
    save_file(locon_mid(Maker(6), unet, 2), out / "mid.safetensors")
    peft(Maker(7), pipe, out)


def add_mid(pipe, path, scale):
    state = load_file(path)
    for name, weight in modules(pipe.unet, ("conv1", "conv2")).items():
        key = "lora_unet_" + name.replace(".", "_")
        up, mid, down = (state[f"{key}.lora_{k}.weight"].double() for k in ("up", "mid", "down"))
        alpha = float(state[f"{key}.alpha"])
        whole = torch.einsum("op,pqyx,qi->oiyx", up[..., 0, 0], mid, down[..., 0, 0])
        weight.data += (scale * alpha / up.shape[1] * whole).float()


def add_dora(pipe, path, scale):
    """By PEFT itself: diffusers reads the magnitudes of kohya's files and leaves them out."""
    state = load_file(path)
    for prefix, net, name_of in (
        ("lora_unet_", pipe.unet, str),
        ("lora_te_", pipe.text_encoder, clip_name),
    ):
        keys = {n: prefix + name_of(n).replace(".", "_") for n in modules(net, ATTENTION + CLIP)}
        keys = {n: k for n, k in keys.items() if f"{k}.alpha" in state}
        config = LoraConfig(r=2, lora_alpha=2, use_dora=True, target_modules=list(keys))
        donor = inject_adapter_in_model(config, copy.deepcopy(net))
        for name, key in keys.items():
            layer = donor.get_submodule(name)
            layer.lora_A["default"].weight.data = state[f"{key}.lora_down.weight"]
            layer.lora_B["default"].weight.data = state[f"{key}.lora_up.weight"]
            layer.lora_magnitude_vector["default"].weight.data = state[f"{key}.dora_scale"][:, 0]
            layer.scaling["default"] = scale * float(state[f"{key}.alpha"]) / 2
            layer.merge()
            net.get_submodule(name).weight.data.copy_(layer.get_base_layer().weight.data)


def fused(model, out, loras, dtype):
    """A Model whose networks carry the LoRAs."""
    pipe, names = pipeline(model), []
    for i, (file, scale) in enumerate(loras):
        if file in ("mid.safetensors", "dora.safetensors"):
            continue
        if file == "blocks.safetensors":  # diffusers knows these names for SDXL's layout alone
            pipe.load_lora_weights(kohya(Maker(2), pipe.unet, None, 2, 3), adapter_name=f"a{i}")
        else:
            pipe.load_lora_weights(out, weight_name=file, adapter_name=f"a{i}")
        names.append((f"a{i}", scale))
    if names:
        pipe.set_adapters([n for n, _ in names], [s for _, s in names])
        pipe.fuse_lora(adapter_names=[n for n, _ in names])
        pipe.unload_lora_weights()
    for file, scale in loras:
        if file == "mid.safetensors":
            add_mid(pipe, out / file, scale)
        if file == "dora.safetensors":
            add_dora(pipe, out / file, scale)
    ref = Model(model)
    ref.loaded["unet"] = pipe.unet.to(dtype).float().eval()
    ref.loaded["text_encoder"] = pipe.text_encoder.to(dtype).float().eval()
    return ref


CASES = {
    "none": [],
    "kohya": [("kohya.safetensors", 1.0)],
    "kohya negative": [("kohya.safetensors", -0.7)],
    "blocks": [("blocks.safetensors", 0.8)],
    "peft": [("peft.safetensors", 0.9)],
    "dora": [("dora.safetensors", 1.0)],
    "dora weak": [("dora.safetensors", 0.4)],
    "old": [("old.safetensors", 1.2)],
    "mid": [("mid.safetensors", 1.0)],
    "several": [
        ("kohya.safetensors", 0.5),
        ("peft.safetensors", -0.3),
        ("old.safetensors", 0.25),
        ("mid.safetensors", 0.6),
        ("blocks.safetensors", 0.1),
    ],
}


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "golden" / "lora")
    model = sys.argv[2] if len(sys.argv) > 2 else ROOT / "golden" / "networks" / "sd1"
    out.mkdir(parents=True, exist_ok=True)
    files(out, model)
    stored = load_file(pathlib.Path(model) / "unet" / "diffusion_pytorch_model.safetensors")
    dtype = next(iter(stored.values())).dtype
    tensors, commands = {}, []
    plain = Model(model)
    width, channels = plain.unet.config.cross_attention_dim, plain.unet.config.in_channels
    x, states = cases.normal((1, channels, 6, 5), SEED), cases.normal((1, 77, width), SEED + 1)
    ids = plain.ids(TEXT)
    tensors.update(x=cases.nhwc(x), states=states.numpy(), ids=np.array(ids, np.int32))
    for label, loras in CASES.items():
        ref = fused(model, out, loras, dtype)
        tensors[f"{label} unet.y"] = cases.nhwc(ref.denoise(x, 499, (states, None)))
        commands.append(
            dict(do="unet", id=f"{label} unet", x="x", states="states", timestep=499, loras=loras)
        )
        tensors[f"{label} text.y"] = ref.embed_ids(ids)[0].numpy()[None]
        commands.append(dict(do="text", id=f"{label} text", ids="ids", loras=loras))
    text = json.dumps(commands).encode()
    tensors["commands"] = np.frombuffer(text, np.uint8).copy()
    save_file(
        {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in tensors.items()},
        out / "golden.safetensors",
    )
    print(f"{out}: {len(commands)} commands")


if __name__ == "__main__":
    main()
