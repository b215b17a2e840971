"""The shapes of the four networks, the noise schedule, and saving them as a diffusers folder.

Sized for one frame of 256 x 256 in 50 ms on two CPU cores: the autoencoder is narrow and does nothing
at full size but its first and last convolutions; the denoiser attends at 16 x 16 and 8 x 8 only.
"""

import json
import pathlib
import shutil

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

LATENT = 16  # channels: an 8 x 8 square of pixels becomes 16 numbers

AUTOENCODER = dict(
    encoder_block_out_channels=(32,) * 4,
    decoder_block_out_channels=(32,) * 4,
    num_encoder_blocks=(0, 0, 2, 2),
    num_decoder_blocks=(3, 3, 1, 0),
    latent_channels=LATENT,
    scaling_factor=3.0,  # see SCHEDULER
)
UNET = dict(
    sample_size=32,
    in_channels=LATENT,
    out_channels=LATENT,
    block_out_channels=(64, 96, 160),
    layers_per_block=1,
    norm_num_groups=16,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    cross_attention_dim=160,
    attention_head_dim=(2, 3, 5),  # heads of 32 channels; diffusers reads this as their number
    use_linear_projection=True,
)
VOCABULARY = 1152
TEXT = dict(
    vocab_size=VOCABULARY,
    hidden_size=160,
    intermediate_size=480,
    num_hidden_layers=2,
    num_attention_heads=5,
    hidden_act="quick_gelu",
    projection_dim=160,
    max_position_embeddings=77,
    bos_token_id=VOCABULARY - 2,
    eos_token_id=VOCABULARY - 1,
    pad_token_id=VOCABULARY - 1,
)
# So small a network sees through little noise, so there is little until late: with betas near 0 and zero
# terminal SNR alpha falls like 1 - (t / 1000)^3, and latents are three times as large as noise is (the
# autoencoder's scaling_factor). At strength 0.4 noise is 1/8 of the picture, at 0.6 a quarter, at 1 all.
SCHEDULER = dict(
    num_train_timesteps=1000,
    beta_start=1e-7,
    beta_end=5e-4,
    beta_schedule="scaled_linear",
    rescale_betas_zero_snr=True,
    prediction_type="v_prediction",
    original_inference_steps=50,
    timestep_scaling=10.0,
    timestep_spacing="leading",
    set_alpha_to_one=True,
    steps_offset=0,
    clip_sample=False,
    thresholding=False,
)


# What the denoiser learns first, at far more noise: the large shapes and the looks.
COARSE = dict(SCHEDULER, beta_start=5e-4, beta_end=6e-3)


def alphas(schedule):
    """sqrt(alpha bar) of each timestep, as LCMScheduler computes it."""
    low, high = schedule["beta_start"] ** 0.5, schedule["beta_end"] ** 0.5
    beta = torch.linspace(low, high, schedule["num_train_timesteps"], dtype=torch.float64).square()
    a = torch.cumprod(1 - beta, 0).sqrt()
    return ((a - a[-1]) * a[0] / (a[0] - a[-1])).float()


def autoencoder():
    return AutoencoderTiny(**AUTOENCODER)


def denoiser():
    return UNet2DConditionModel(**UNET)


def text_encoder():
    return CLIPTextModel(CLIPTextConfig(**TEXT))


def save(folder, vae, unet, text):
    """Everything but the tokenizer, in fp16."""
    folder = pathlib.Path(folder)
    parts = (
        (unet, "unet", "diffusion_pytorch_model"),
        (vae, "vae", "diffusion_pytorch_model"),
        (text, "text_encoder", "model"),
    )
    for network, part, name in parts:
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
        (
            network.config.save_pretrained(folder / part)
            if part == "text_encoder"
            else (network.save_config(folder / part))
        )
        state = {k: v.detach().half().contiguous() for k, v in network.state_dict().items()}
        state = {k: v for k, v in state.items() if not k.endswith("position_ids")}
        save_file(state, folder / part / f"{name}.safetensors", metadata={"format": "pt"})
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps(dict(_class_name="LCMScheduler", **SCHEDULER), indent=2) + "\n"
    )
    index = dict(
        _class_name="StableDiffusionPipeline",
        feature_extractor=[None, None],
        requires_safety_checker=False,
        safety_checker=[None, None],
        scheduler=["diffusers", "LCMScheduler"],
        text_encoder=["transformers", "CLIPTextModel"],
        tokenizer=["transformers", "CLIPTokenizer"],
        unet=["diffusers", "UNet2DConditionModel"],
        vae=["diffusers", "AutoencoderTiny"],
    )
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
