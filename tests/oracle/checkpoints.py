"""Random checkpoints in the diffusers folder format, of tiny and of full size; and the one that ships.

A random checkpoint is a pure function of (name, seed): every tensor has a generator of its own, seeded by
its name. Weights are fan-in scaled (std = gain / sqrt(fan in)), so that activations stay O(1) from
the first to the last layer and an error anywhere is seen at the output:
  - queries and keys have gain 1.5, so that softmax is neither flat nor one-hot;
  - the autoencoders' last layers are calibrated on one noise input: latents get a standard deviation
    of 1 (after scaling_factor), pictures a mid grey mean and enough contrast;
  - norms are 1 + 0.1 n, biases 0.1 n, so that a forgotten one is an error and not a rounding.
"""

import json
import pathlib
import shutil
import zlib

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import vocabulary

FORMAT = 1  # raise it when the same (name, seed) must give other bytes

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
UP_CROSS, UP_PLAIN = "CrossAttnUpBlock2D", "UpBlock2D"

SD15_UNET = dict(
    sample_size=64,
    block_out_channels=(320, 640, 1280, 1280),
    layers_per_block=2,
    down_block_types=(CROSS, CROSS, CROSS, PLAIN),
    up_block_types=(UP_PLAIN, UP_CROSS, UP_CROSS, UP_CROSS),
    cross_attention_dim=768,
    attention_head_dim=8,
)
SD2_UNET = dict(
    SD15_UNET,
    cross_attention_dim=1024,
    attention_head_dim=(5, 10, 20, 20),
    use_linear_projection=True,
)
SDXL_UNET = dict(
    sample_size=128,
    block_out_channels=(320, 640, 1280),
    layers_per_block=2,
    down_block_types=(PLAIN, CROSS, CROSS),
    up_block_types=(UP_CROSS, UP_CROSS, UP_PLAIN),
    transformer_layers_per_block=(1, 2, 10),
    attention_head_dim=(5, 10, 20),
    use_linear_projection=True,
    cross_attention_dim=2048,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)
CLIP_L = dict(
    vocab_size=49408,
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    hidden_act="quick_gelu",
    projection_dim=768,
    bos_token_id=49406,
    eos_token_id=49407,
    pad_token_id=1,
)
OPENCLIP_H = dict(
    vocab_size=49408,
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=23,
    num_attention_heads=16,
    hidden_act="gelu",
    projection_dim=512,
    bos_token_id=49406,
    eos_token_id=49407,
    pad_token_id=1,
)
OPENCLIP_BIGG = dict(
    OPENCLIP_H,
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=20,
    projection_dim=1280,
)
SD_VAE = dict(
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    latent_channels=4,
    sample_size=512,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    scaling_factor=0.18215,
)

SCHEDULE = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    set_alpha_to_one=False,
    steps_offset=1,
    prediction_type="epsilon",
)
PNDM = dict(SCHEDULE, _class_name="PNDMScheduler", skip_prk_steps=True)
DDIM_V = dict(
    SCHEDULE, _class_name="DDIMScheduler", clip_sample=False, prediction_type="v_prediction"
)
EULER = dict(SCHEDULE, _class_name="EulerDiscreteScheduler", timestep_spacing="trailing")
LCM = dict(
    SCHEDULE,
    _class_name="LCMScheduler",
    clip_sample=False,
    original_inference_steps=50,
    timestep_scaling=10.0,
    rescale_betas_zero_snr=False,
)

# Tiny networks: two resolutions, odd head sizes, every branch of the full ones.
TINY_UNET = dict(
    sample_size=8,
    block_out_channels=(8, 24),
    layers_per_block=1,
    norm_num_groups=8,
    down_block_types=(CROSS, PLAIN),
    up_block_types=(UP_PLAIN, UP_CROSS),
    cross_attention_dim=32,
    attention_head_dim=2,
)
TINY_CLIP = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    hidden_act="quick_gelu",
    projection_dim=32,
)
TINY_VAE = dict(
    SD_VAE, block_out_channels=(8, 8, 8, 16), layers_per_block=1, norm_num_groups=4, sample_size=64
)
# SDXL's shape: no attention in the first level, transformers that deepen, two text encoders of 32 and
# 24, a pooled text of 20 and six sizes of 8.
TINY_XL_UNET = dict(
    TINY_UNET,
    block_out_channels=(8, 16, 24),
    down_block_types=(PLAIN, CROSS, CROSS),
    up_block_types=(UP_CROSS, UP_CROSS, UP_PLAIN),
    transformer_layers_per_block=(1, 2, 3),
    attention_head_dim=(1, 2, 3),
    use_linear_projection=True,
    cross_attention_dim=56,
    addition_embed_type="text_time",
    addition_time_embed_dim=8,
    projection_class_embeddings_input_dim=68,
)
TINY_TAESD = dict(
    encoder_block_out_channels=(8,) * 4,
    decoder_block_out_channels=(8,) * 4,
    num_encoder_blocks=(1, 1, 1, 1),
    num_decoder_blocks=(1, 1, 1, 1),
)

MODELS = {
    "sd15": dict(unet=SD15_UNET, text=CLIP_L, vae=SD_VAE, taesd={}, scheduler=PNDM),
    "sd21": dict(
        unet=dict(SD2_UNET, sample_size=96, upcast_attention=True),
        text=OPENCLIP_H,
        vae=SD_VAE,
        taesd={},
        scheduler=DDIM_V,
        pad="!",
    ),
    "turbo": dict(unet=SD2_UNET, text=OPENCLIP_H, vae=SD_VAE, taesd={}, scheduler=EULER, pad="!"),
    "lcm": dict(
        unet=dict(SD15_UNET, time_cond_proj_dim=256),
        text=CLIP_L,
        vae=SD_VAE,
        taesd={},
        scheduler=LCM,
    ),
    "sdxl": dict(
        unet=SDXL_UNET,
        text=CLIP_L,
        text_2=OPENCLIP_BIGG,
        vae=dict(SD_VAE, scaling_factor=0.13025, force_upcast=True),
        taesd={},
        scheduler=EULER,
    ),
    "tiny-sd1": dict(
        unet=TINY_UNET,
        text=TINY_CLIP,
        vae=TINY_VAE,
        taesd=TINY_TAESD,
        scheduler=PNDM,
        dtype=torch.float32,
    ),
    "tiny-sd2": dict(
        unet=dict(
            TINY_UNET,
            block_out_channels=(12, 16),
            norm_num_groups=4,
            attention_head_dim=(1, 2),
            use_linear_projection=True,
            upcast_attention=True,
            cross_attention_dim=24,
        ),
        text=dict(TINY_CLIP, hidden_size=24, hidden_act="gelu"),
        pad="!",
        vae=dict(TINY_VAE, block_out_channels=(4, 8, 8, 8)),
        scheduler=DDIM_V,
        shards=2,
    ),
    "tiny-lcm": dict(
        unet=dict(TINY_UNET, block_out_channels=(8, 16), time_cond_proj_dim=32),
        text=dict(TINY_CLIP, num_hidden_layers=1),
        vae=TINY_TAESD,
        scheduler=LCM,
        dtype=torch.bfloat16,
    ),
}

MODELS["tiny-sdxl"] = dict(
    unet=TINY_XL_UNET,
    text=TINY_CLIP,
    # Pooled at the largest id, as the published configs mean by an end token of 2.
    text_2=dict(
        TINY_CLIP,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=3,
        hidden_act="gelu",
        projection_dim=20,
        eos_token_id=2,
    ),
    vae=dict(TINY_VAE, scaling_factor=0.13025, force_upcast=True),
    taesd=TINY_TAESD,
    scheduler=LCM,
)

TINY_VOCABULARY = 600

# Trained, in this repository, and used as it is.
SHIPPED = "tiny"
SHIPPED_FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "models" / "tiny"

NAMES = [SHIPPED, *MODELS]


def generator(seed, name):
    return torch.Generator().manual_seed((seed << 32) ^ zlib.crc32(name.encode()))


def fill(model, seed, scope):
    """Every parameter of `model`, by its name's own random stream."""
    relu = isinstance(model, AutoencoderTiny)
    state = {}
    for name, p in model.named_parameters():
        r = torch.randn(p.shape, generator=generator(seed, f"{scope}.{name}"))
        if "embedding" in name and p.ndim == 2 and scope.startswith("text_encoder"):
            r *= 0.5
        elif p.ndim >= 2:
            gain = 1.0
            if any(f".{k}." in name for k in ("to_q", "to_k", "q_proj", "k_proj")):
                gain = 1.5
            elif relu:
                gain = 0.5 if ".conv.4." in name else 2**0.5
            r *= gain / p[0].numel() ** 0.5
        else:
            r = 0.1 * r + (1.0 if name.endswith("weight") else 0.0)
        state[name] = r
    model.load_state_dict(state, strict=False, assign=True)
    return model.eval()


@torch.no_grad()
def calibrate(vae, seed):
    """Scale the last layers: unit latents, pictures around mid grey. See the head of the file."""
    x = torch.rand(1, 3, 64, 64, generator=generator(seed, "calibrate")) * 2 - 1
    z = torch.randn(1, 4, 8, 8, generator=generator(seed, "calibrate.z"))
    if isinstance(vae, AutoencoderTiny):
        last = vae.encoder.layers[-1]
        scale_to(last, vae.encode(x).latents, 1.0, 0.0, slice(None))
        # The decoder returns 2 y - 1.
        scale_to(
            vae.decoder.layers[-1], vae.decode(z).sample, 0.35, 0.0, slice(None), before=(2.0, -1.0)
        )
        return
    mean = slice(0, 4)
    scale_to(
        vae.quant_conv, vae.encode(x).latent_dist.mean, 1 / vae.config.scaling_factor, 0.0, mean
    )
    vae.post_quant_conv.weight.data *= vae.config.scaling_factor
    scale_to(
        vae.decoder.conv_out,
        vae.decode(z / vae.config.scaling_factor).sample,
        0.35,
        0.0,
        slice(None),
    )


def scale_to(layer, y, std, mean, rows, before=(1.0, 0.0)):
    """Change `layer` so that y = before[0] * layer(..) + before[1] gets this mean and deviation."""
    k = std / y.std()
    layer.weight.data[rows] *= k
    layer.bias.data[rows] *= k
    shift = (mean - before[1] - k * (y.mean() - before[1])) / before[0]
    layer.bias.data[rows] += shift


def save(model, folder, dtype, shards=1, prefix="", stem="diffusion_pytorch_model"):
    folder.mkdir(parents=True)
    state = {prefix + k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    if shards == 1:
        save_file(state, folder / f"{stem}.safetensors", metadata={"format": "pt"})
        return
    names = sorted(state)
    where = {}
    for i in range(shards):
        file = f"{stem}-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = names[i::shards]
        save_file({n: state[n] for n in part}, folder / file, metadata={"format": "pt"})
        where.update({n: file for n in part})
    total = sum(t.numel() * t.element_size() for t in state.values())
    (folder / f"{stem}.safetensors.index.json").write_text(
        json.dumps(dict(metadata=dict(total_size=total), weight_map=where), indent=1) + "\n"
    )


def write_json(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n")


def new_vae(config, seed):
    vae = (AutoencoderKL if "layers_per_block" in config else AutoencoderTiny)(**config)
    fill(vae, seed, "vae")
    calibrate(vae, seed)
    return vae


def save_network(network, folder, dtype, shards=1):
    save(network, folder, dtype, shards)
    network.save_config(folder)


def save_text_encoder(encoder, folder, dtype):
    # Checkpoints of the wild carry this prefix; newer transformers drop it in memory.
    has = any(k.startswith("text_model.") for k in encoder.state_dict())
    save(encoder, folder, dtype, prefix="" if has else "text_model.", stem="model")
    encoder.config.architectures = [type(encoder).__name__]
    encoder.config.save_pretrained(folder)


def save_pipeline(folder, unet, text, vae, scheduler, dtype, shards=1, text_2=None):
    """A whole folder but for the tokenizers; with a second text encoder, SDXL's."""
    save_network(unet, folder / "unet", dtype, shards)
    save_text_encoder(text, folder / "text_encoder", dtype)
    save_network(vae, folder / "vae", dtype)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.36.0",
        "feature_extractor": [None, None],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", type(vae).__name__],
    }
    if text_2:
        save_text_encoder(text_2, folder / "text_encoder_2", dtype)
        index.update(
            _class_name="StableDiffusionXLPipeline",
            force_zeros_for_empty_prompt=True,
            text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
            tokenizer_2=["transformers", "CLIPTokenizer"],
        )
    else:
        index.update(requires_safety_checker=False, safety_checker=[None, None])
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_json(folder / "model_index.json", dict(sorted(index.items())))


def text_config(given, size):
    usual = dict(
        vocab_size=size,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=1,
        max_position_embeddings=77,
    )
    return CLIPTextConfig(**dict(usual, **given))


def write(name, folder, seed, dtype):
    model, folder = MODELS[name], pathlib.Path(folder)
    size = model["text"].get("vocab_size", TINY_VOCABULARY)
    vocabulary.write(folder / "tokenizer", size, pad=model.get("pad", vocabulary.END))
    # Built without the default initialisation, which costs minutes at full size.
    with torch.device("meta"):
        unet = UNet2DConditionModel(**model["unet"])
    text = fill(CLIPTextModel(text_config(model["text"], size)), seed, "text_encoder")
    text_2 = None
    if "text_2" in model:
        vocabulary.write(folder / "tokenizer_2", size, pad="!")
        text_2 = CLIPTextModelWithProjection(text_config(model["text_2"], size))
        text_2 = fill(text_2, seed, "text_encoder_2")
    save_pipeline(
        folder,
        fill(unet, seed, "unet"),
        text,
        new_vae(model["vae"], seed),
        model["scheduler"],
        dtype,
        model.get("shards", 1),
        text_2,
    )
    if "taesd" in model:
        save_network(new_vae(model["taesd"], seed), folder / "taesd", dtype)


def folder(name, seed, root):
    """The folder of checkpoint `name`; a random one is written on the first call."""
    if name == SHIPPED:
        return SHIPPED_FOLDER
    dtype = MODELS[name].get("dtype", torch.float16)
    kind = str(dtype).removeprefix("torch.")
    kept = pathlib.Path(root) / f"{name}-{kind}-seed{seed}-v{FORMAT}"
    if not kept.exists():
        part = kept.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        write(name, part, seed, dtype)
        part.rename(kept)
    return kept
