"""Single-file checkpoints with LDM's and OpenCLIP's names, from diffusers' networks.

    single.py NAMES              every tensor of random single files, through us and through diffusers
    single.py golden             write tests/golden/networks/ldm1 and ldm2 again
    single.py lists              write tests/golden/tensors/ldm-*.txt again: the published files' names

NAMES is the program tests/oracle/names. The files are written by this module's own table, from networks of
diffusers and transformers; whether the table is right is judged by diffusers' conversion of the file,
which must give the networks back, tensor by tensor, and by ours, which must give the same.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as theirs
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import checkpoints
import vocabulary

CROSS, PLAIN = checkpoints.CROSS, checkpoints.PLAIN
UP_CROSS, UP_PLAIN = checkpoints.UP_CROSS, checkpoints.UP_PLAIN

# Widths are multiples of 32 (norm groups) and, from SD 2 on, 64 where there is attention: that is
# what a file without a config can be told from.
UNET = dict(
    sample_size=8,
    block_out_channels=(32, 64),
    layers_per_block=1,
    down_block_types=(PLAIN, CROSS),
    up_block_types=(UP_CROSS, UP_PLAIN),
    cross_attention_dim=64,
    attention_head_dim=8,
)
LINEAR = dict(UNET, use_linear_projection=True, attention_head_dim=(1, 1))
VAE = dict(checkpoints.SD_VAE, block_out_channels=(32, 32, 32, 32), layers_per_block=1)
CLIP = dict(
    vocab_size=checkpoints.TINY_VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=1,
    hidden_act="quick_gelu",
    bos_token_id=checkpoints.TINY_VOCABULARY - 2,
    eos_token_id=checkpoints.TINY_VOCABULARY - 1,
    projection_dim=64,
)

MODELS = {
    "sd1": dict(unet=UNET, text=CLIP),
    "sd2": dict(unet=LINEAR, text=dict(CLIP, hidden_act="gelu")),
    "sdxl": dict(
        unet=dict(
            LINEAR,
            block_out_channels=(32, 64, 64),
            down_block_types=(PLAIN, CROSS, CROSS),
            up_block_types=(UP_CROSS, UP_CROSS, UP_PLAIN),
            transformer_layers_per_block=(1, 1, 2),
            attention_head_dim=(1, 1, 1),
            layers_per_block=2,
            cross_attention_dim=128,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=6 * 256 + 64,
        ),
        text=CLIP,
        text_2=dict(CLIP, hidden_act="gelu"),
    ),
}

# ---- names ------------------------------------------------------------------------------------------

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in.": "input_blocks.0.0.",
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def unet_to_ldm(name, layers, attends):
    """`layers` resnets a down block; `attends[i]`: up block i has transformers."""
    for ours, ldm in ENDS.items():
        if name.startswith(ours):
            return ldm + name[len(ours) :]
    kind, rest = name.split(".", 1)
    if kind == "mid_block":
        what, i, rest = rest.split(".", 2)
        at = 1 if what == "attentions" else 2 * int(i)
        return f"middle_block.{at}." + (rest if what == "attentions" else resnet(rest))
    block, what, layer, rest = rest.split(".", 3)
    block, layer = int(block), int(layer)
    if what == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op." + rest.removeprefix("conv.")
    if what == "upsamplers":
        return f"output_blocks.{block * (layers + 1) + layers}.{1 + attends[block]}." + rest
    if kind == "down_blocks":
        head = f"input_blocks.{1 + block * (layers + 1) + layer}."
    else:
        head = f"output_blocks.{block * (layers + 1) + layer}."
    return head + ("1." + rest if what == "attentions" else "0." + resnet(rest))


def resnet(rest):
    part, end = rest.rsplit(".", 1)
    return f"{RESNET[part]}.{end}"


def vae_to_ldm(name, levels):
    name = re.sub(r"^encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(
        r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", name
    )
    up = re.match(r"^decoder\.up_blocks\.(\d+)\.(resnets|upsamplers\.0)\.(.*)", name)
    if up:
        what = "block" if up[2] == "resnets" else "upsample"
        name = f"decoder.up.{levels - 1 - int(up[1])}.{what}.{up[3]}"
    for ours, ldm in {
        "mid_block.resnets.0.": "mid.block_1.",
        "mid_block.resnets.1.": "mid.block_2.",
        "mid_block.attentions.0.group_norm.": "mid.attn_1.norm.",
        "mid_block.attentions.0.to_q.": "mid.attn_1.q.",
        "mid_block.attentions.0.to_k.": "mid.attn_1.k.",
        "mid_block.attentions.0.to_v.": "mid.attn_1.v.",
        "mid_block.attentions.0.to_out.0.": "mid.attn_1.proj_out.",
        "conv_norm_out.": "norm_out.",
        "conv_shortcut.": "nin_shortcut.",
    }.items():
        name = name.replace(ours, ldm)
    return name


def openclip(state):
    """The state of a CLIPTextModel[WithProjection] as OpenCLIP has it."""
    out, joined = {}, {}
    for name, x in state.items():
        name = name.removeprefix("text_model.")
        layer = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$", name)
        if name == "text_projection.weight":
            out["text_projection"] = x.T
        elif name == "embeddings.position_embedding.weight":
            out["positional_embedding"] = x
        elif layer and layer[2] in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            joined.setdefault((layer[1], layer[3]), {})[layer[2][10]] = x
        elif layer:
            out[f"transformer.resblocks.{layer[1]}.{LAYER[layer[2]]}.{layer[3]}"] = x
        elif name.startswith("final_layer_norm"):
            out[name.replace("final_layer_norm", "ln_final")] = x
        else:
            out[name.removeprefix("embeddings.")] = x
    for (layer, end), parts in joined.items():
        out[f"transformer.resblocks.{layer}.attn.in_proj_{end}"] = torch.cat(
            [parts[k] for k in "qkv"]
        )
    return out


def prefixed(state, prefix=""):
    """transformers 5 drops text_model. in memory; files have it."""
    return {
        prefix + (k if k.startswith("text_") else f"text_model.{k}"): v for k, v in state.items()
    }


# ---- files ------------------------------------------------------------------------------------------


class Single:
    """Random networks, and the one file that holds them."""

    def __init__(self, name, seed):
        self.name, self.model = name, MODELS[name]
        config = self.model["unet"]
        self.unet = checkpoints.fill(UNet2DConditionModel(**config), seed, "unet")
        self.vae = checkpoints.new_vae(VAE, seed)
        self.text = checkpoints.fill(
            CLIPTextModel(CLIPTextConfig(**self.model["text"])), seed, "text_encoder"
        )
        self.text_2 = None
        if "text_2" in self.model:
            self.text_2 = checkpoints.fill(
                CLIPTextModelWithProjection(CLIPTextConfig(**self.model["text_2"])),
                seed,
                "text_encoder_2",
            )

    def networks(self):
        return [n for n in (self.unet, self.vae, self.text, self.text_2) if n is not None]

    def round_to(self, dtype):
        """Weights that `dtype` holds exactly, so that a file of it loses nothing."""
        for network in self.networks():
            for p in network.parameters():
                p.data = p.data.to(dtype).float()
        return self

    def state(self, vae=True):
        config, out = self.unet.config, {}
        attends = [t == UP_CROSS for t in config.up_block_types]
        for k, x in self.unet.state_dict().items():
            out["model.diffusion_model." + unet_to_ldm(k, config.layers_per_block, attends)] = x
        for k, x in self.vae.state_dict().items() if vae else ():
            square = ".attentions." in k and x.ndim == 2  # written as a 1x1 convolution
            out["first_stage_model." + vae_to_ldm(k, 4)] = x[..., None, None] if square else x
        text, prefix = self.text.state_dict(), "cond_stage_model."
        if self.name == "sd1":
            out.update(prefixed(text, prefix + "transformer."))
        elif self.name == "sd2":
            out.update({prefix + "model." + k: x for k, x in openclip(text).items()})
            out[prefix + "model.text_projection"] = torch.zeros(64, 64)
        else:
            out.update(prefixed(text, "conditioner.embedders.0.transformer."))
            second = openclip(self.text_2.state_dict())
            out.update({"conditioner.embedders.1.model." + k: x for k, x in second.items()})
            out["conditioner.embedders.1.model.logit_scale"] = torch.zeros(())
        return {k: x.contiguous() for k, x in out.items()}

    def extras(self):
        """What real files carry besides."""
        some = self.unet.conv_in.weight
        return {
            "model_ema.diffusion_modelinput_blocks00weight": some.clone(),
            "model_ema.num_updates": torch.zeros((), dtype=torch.int64),
            "alphas_cumprod": torch.ones(1000),
            "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[
                None
            ],
        }


def write(single, path, dtype, vae=True, extras=True, metadata=None):
    state = {k: x.to(dtype) for k, x in single.state(vae).items()}
    if extras:
        more = single.extras()
        if single.name != "sd1":
            more.pop("cond_stage_model.transformer.text_model.embeddings.position_ids")
        state.update({k: x.contiguous() for k, x in more.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata=metadata)


# ---- every tensor -------------------------------------------------------------------------------------


def diffusers_reads(single):
    """{part: {name: tensor}} as diffusers converts the file; must be the networks themselves."""
    state = single.state()
    unet = theirs.convert_ldm_unet_checkpoint(dict(state), dict(single.unet.config))
    vae = theirs.convert_ldm_vae_checkpoint(dict(state), dict(single.vae.config))
    parts = {"unet": unet, "vae": vae}
    if single.name == "sd2":
        parts["text_encoder"] = theirs.convert_open_clip_checkpoint(
            single.text, dict(state), "cond_stage_model.model."
        )
    else:
        parts["text_encoder"] = theirs.convert_ldm_clip_checkpoint(dict(state))
    if single.text_2 is not None:
        parts["text_encoder_2"] = theirs.convert_open_clip_checkpoint(
            single.text_2, dict(state), "conditioner.embedders.1.model."
        )
    mine = {"unet": single.unet, "vae": single.vae}
    for part, network in mine.items():
        network.load_state_dict(parts[part], strict=True)
    return parts


def digest(x):
    """What names.c prints of a tensor: its sum, and its sum weighted by place."""
    x = x.detach().double().flatten().numpy()
    return x.sum(), (x * ((np.arange(x.size) % 1009) + 1)).sum()


def ours(names, path, part):
    done = subprocess.run([names, path, part], capture_output=True, text=True, check=True)
    out = {}
    for line in done.stdout.splitlines():
        name, shape, a, b = line.split("\t")
        out[name] = ([int(d) for d in shape.split()], float(a), float(b))
    return out


def check(names, seed):
    worst, count = 0.0, 0
    with tempfile.TemporaryDirectory() as root:
        for kind in MODELS:
            for dtype in (torch.float32, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2):
                single = Single(kind, seed).round_to(dtype)
                path = pathlib.Path(root) / f"{kind}.safetensors"
                write(single, path, dtype)
                for part, want in diffusers_reads(single).items():
                    have = ours(names, path, part)
                    if part.startswith("text"):
                        want = prefixed(want) if part == "text_encoder_2" else want
                        want = {k: x for k, x in want.items() if "position_ids" not in k}
                        have = {k: x for k, x in have.items() if "position_ids" not in k}
                        if kind == "sd2":
                            want.pop("text_projection.weight", None)
                    if part == "text_encoder":
                        want = prefixed(want)
                    assert have.keys() == want.keys(), (kind, part, have.keys() ^ want.keys())
                    for name, x in want.items():
                        shape, a, b = have[name]
                        trimmed = [d for d in x.shape]
                        while len(shape) > len(trimmed) and shape[-1] == 1:
                            shape.pop()
                        assert shape == trimmed, (kind, part, name, shape, trimmed)
                        p, q = digest(x)
                        scale = 1 + abs(q)
                        worst = max(worst, abs(a - p) / scale, abs(b - q) / scale)
                        count += 1
                print(
                    f"{kind:5} {str(dtype):24} worst {worst:.2e} over {count} tensors", flush=True
                )
    if worst > 1e-9:
        raise SystemExit(f"a tensor differs: {worst:.2e}")


# ---- lists ----------------------------------------------------------------------------------------------

TENSORS = pathlib.Path(__file__).parents[1] / "golden" / "tensors"


def read_list(name):
    lines = (TENSORS / f"{name}.txt").read_text().splitlines()[1:]
    out, last = {}, ""
    for line in lines:
        shared, rest, *dims = line.split(" ")
        last = last[: int(shared)] + rest
        out[last] = torch.empty([int(d) for d in dims], device="meta")
    return out


def write_list(name, tensors):
    last, lines = "", [f"{len(tensors)} {sum(x.numel() for x in tensors.values())}"]
    for key in sorted(tensors):
        shared = 0
        while shared < min(len(key), len(last)) and key[shared] == last[shared]:
            shared += 1
        shared = min(shared, len(key) - 1)
        lines.append(" ".join([str(shared), key[shared:], *map(str, tensors[key].shape)]))
        last = key
    (TENSORS / f"{name}.txt").write_text("\n".join(lines) + "\n")


def like(state, width):
    """What convert_open_clip_checkpoint asks of a model."""
    return type("Model", (), dict(config=type("Config", (), dict(hidden_size=width))))


def published(kind, unet, text, attends, text_2=None):
    """The single file of a published model, by its networks' lists; judged by diffusers."""
    unet, vae, text = read_list(unet), read_list("vae"), read_list(text)
    out = {"model.diffusion_model." + unet_to_ldm(k, 2, attends): x for k, x in unet.items()}
    for k, x in vae.items():
        square = ".attentions." in k and x.ndim == 2
        out["first_stage_model." + vae_to_ldm(k, 4)] = x[..., None, None] if square else x
    if kind == "sd15":
        out.update({"cond_stage_model.transformer." + k: x for k, x in text.items()})
    elif kind == "sd21":
        top = {
            k.replace("layers.22.", "layers.23."): x for k, x in text.items() if "layers.22." in k
        }
        both = openclip({**text, **top})
        out.update({"cond_stage_model.model." + k: x for k, x in both.items()})
        out["cond_stage_model.model.text_projection"] = torch.empty(1024, 1024, device="meta")
    else:
        out.update({"conditioner.embedders.0.transformer." + k: x for k, x in text.items()})
        second = openclip(text_2)
        out.update({"conditioner.embedders.1.model." + k: x for k, x in second.items()})
    config = dict(
        layers_per_block=2,
        class_embed_type=None,
        addition_embed_type="text_time" if text_2 else None,
        num_class_embeds=None,
    )
    vae_config = dict(down_block_types=[None] * 4, up_block_types=[None] * 4, layers_per_block=2)
    same(theirs.convert_ldm_unet_checkpoint(dict(out), config), unet)
    same(theirs.convert_ldm_vae_checkpoint(dict(out), vae_config), vae)
    if kind == "sd21":
        got = theirs.convert_open_clip_checkpoint(like(text, 1024), dict(out))
        got.pop("text_projection.weight", None)
        same(prefixed(got), text)
    if text_2:
        got = theirs.convert_open_clip_checkpoint(
            like(text_2, 1280), dict(out), "conditioner.embedders.1.model."
        )
        same(prefixed(got), text_2)
    write_list(f"ldm-{kind}", out)
    print(f"ldm-{kind}: {len(out)} tensors")


def same(got, want):
    got = {k: tuple(x.shape) for k, x in got.items()}
    want = {k: tuple(x.shape) for k, x in want.items()}
    assert got == want, set(got.items()) ^ set(want.items())


def lists():
    published("sd15", "sd15-unet", "sd15-text", [0, 1, 1, 1])
    published("sd21", "sd21-unet", "sd21-text", [0, 1, 1, 1])
    published("sdxl", "sdxl-unet", "sd15-text", [1, 1, 0], read_list("sdxl-text-2"))


# ---- golden ---------------------------------------------------------------------------------------------


def golden():
    import golden as g

    root = pathlib.Path(__file__).parents[1] / "golden" / "networks"
    for kind, dtype in (("sd1", torch.float8_e5m2), ("sd2", torch.float8_e4m3fn)):
        folder = root / kind.replace("sd", "ldm")
        shutil.rmtree(folder, ignore_errors=True)
        single = Single(kind, g.SEED).round_to(dtype)
        diffusers_reads(single)
        write(single, folder / "model.safetensors", dtype, vae=kind == "sd1")
        vocabulary.write(
            folder / "tokenizer", checkpoints.TINY_VOCABULARY, pad=vocabulary.END
        )  # CLIP's own padding: the file says whether the model wants another
        out = g.Golden()
        ref = Reference(single, folder)
        g.text(out, ref)
        g.unet(out, ref)
        if kind == "sd1":
            g.autoencoder(out, ref, False)
        g.finish(out, folder)


class Reference:
    """What golden.py asks of reference.Model, of networks in memory."""

    xl = False

    def __init__(self, single, folder):
        from transformers import CLIPTokenizer

        self.unet, self.vae, self.text_encoder = single.unet, single.vae, single.text
        self.tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
        if single.name == "sd2":
            self.tokenizer.pad_token = "!"

    def ids(self, text):
        return self.tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids

    @torch.no_grad()
    def embed_ids(self, ids):
        return self.text_encoder(torch.tensor([ids])).last_hidden_state, None

    @torch.no_grad()
    def denoise(self, x, t, context, cond):
        return self.unet(x, t, context[0]).sample

    def guidance_embedding(self, scale):
        return None

    def autoencoder(self, tiny):
        return self.vae


if __name__ == "__main__":
    if sys.argv[1] == "golden":
        golden()
    elif sys.argv[1] == "lists":
        lists()
    else:
        check(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)
