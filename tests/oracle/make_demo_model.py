"""Makes examples/models/random: a small Stable Diffusion checkpoint for the demo and for tests.

    make_demo_model.py FOLDER [--seed N] [--steps N]

Every weight starts random. Then, in a few minutes on a CPU, the autoencoder learns to reproduce crops
of the public-domain photographs that scikit-image carries, and the UNet learns to see through noise
and to change colours when the prompt holds one of a few words (STYLES). It knows nothing else.
"""

import argparse
import pathlib
import random
import shutil

import skimage.data
import skimage.io
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import checkpoints
import vocabulary

# NASA (astronaut, hubble_deep_field) and CC0 (chelsea, coffee, rocket): see the model card.
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "rocket.jpg")
CROP = 64
VOCABULARY = 700
AUTOENCODER = dict(
    encoder_block_out_channels=(32,) * 4,
    decoder_block_out_channels=(32,) * 4,
    num_encoder_blocks=(1, 1, 1, 1),
    num_decoder_blocks=(1, 1, 1, 1),
)
UNET = dict(
    sample_size=32,
    block_out_channels=(32, 64),
    layers_per_block=1,
    norm_num_groups=8,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=64,
    attention_head_dim=2,
    use_linear_projection=True,
)
TEXT = dict(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    hidden_act="quick_gelu",
    projection_dim=64,
    max_position_embeddings=77,
    pad_token_id=1,
)
# Less noise than Stable Diffusion's schedule: so small a network sees through little.
SCHEDULER = dict(checkpoints.LCM, prediction_type="v_prediction", beta_start=0.0002, beta_end=0.005)


def ramp(x, *stops):
    """Brightness to colour, along evenly spaced stops."""
    luma = (0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]) * (len(stops) - 1)
    colour = torch.tensor(stops)[:, :, None, None]
    y = torch.zeros_like(x)
    for i, c in enumerate(colour):
        y = y + (1 - (luma - i).abs()).clamp(0, 1) * c
    return y


def tint(x, colour, contrast=1.0, lift=0.0):
    return (x * torch.tensor(colour)[:, None, None] - 0.5) * contrast + 0.5 + lift


# Words of a prompt and what they do to a picture [n, 3, h, w] in 0..1.
STYLES = {
    "sea": lambda x: (
        0.25 * x + 0.75 * ramp(x, (0.0, 0.08, 0.2), (0.0, 0.4, 0.55), (0.85, 1.0, 0.95))
    ),
    "watercolour": lambda x: 0.35 + 0.65 * (1.5 * x - 0.5 * x.mean(1, keepdim=True)).clamp(0, 1),
    "night": lambda x: tint(x, (0.35, 0.4, 0.85), 0.9, -0.15),
    "neon": lambda x: ramp(x, (0.05, 0.0, 0.15), (0.9, 0.0, 0.7), (0.1, 0.9, 1.0), (1.0, 1.0, 0.7)),
    "gold": lambda x: 0.3 * x + 0.7 * ramp(x, (0.15, 0.05, 0.0), (0.8, 0.5, 0.1), (1.0, 0.95, 0.7)),
    "winter": lambda x: (
        0.3 * x + 0.7 * ramp(x, (0.25, 0.32, 0.45), (0.75, 0.84, 0.93), (1.0, 1.0, 1.0))
    ),
    "fire": lambda x: ramp(x, (0.05, 0.0, 0.0), (0.75, 0.1, 0.0), (1.0, 0.6, 0.1), (1.0, 1.0, 0.8)),
    "forest": lambda x: (
        0.35 * x + 0.65 * ramp(x, (0.0, 0.1, 0.05), (0.2, 0.5, 0.15), (0.9, 1.0, 0.7))
    ),
    "drawing": lambda x: tint(x.mean(1, keepdim=True).expand_as(x), (1.0, 1.0, 1.0), 1.4, 0.08),
    "oil": lambda x: tint(x + 0.6 * (x - x.mean(1, keepdim=True)), (1.05, 1.0, 0.9), 1.3),
}
TEMPLATES = (
    "{}",
    "a photo of {}",
    "a {} painting",
    "{} of a castle",
    "a {} of the harbour",
    "the {}, high detail",
    "a city in {}",
    "a cat, {} style",
    "{} light",
    "an {} of a street",
)
PLAIN = ("", "a photo", "a cat", "a portrait of a woman", "a castle on a hill", "a city street")


def photographs():
    root = pathlib.Path(skimage.data.__file__).parent
    for name in PHOTOS:
        x = (
            torch.from_numpy(skimage.io.imread(root / name)[..., :3].copy())
            .permute(2, 0, 1)[None]
            .float()
        )
        for size in (160, 256, 400):
            k = size / min(x.shape[2:])
            yield F.interpolate(x / 255, scale_factor=k, mode="bilinear", antialias=True)[0].clamp(
                0, 1
            )


def crops(pictures, rng, count):
    out = []
    for _ in range(count):
        p = rng.choice(pictures)
        y, x = rng.randint(0, p.shape[1] - CROP), rng.randint(0, p.shape[2] - CROP)
        c = p[:, y : y + CROP, x : x + CROP]
        out.append(c.flip(2) if rng.random() < 0.5 else c)
    return torch.stack(out)


def styled(x, words):
    for w in words:
        x = STYLES[w](x).clamp(0, 1)
    return x


def some_words(rng):
    return rng.sample(sorted(STYLES), rng.choice((0, 1, 1, 1, 1, 2)))


def prompt_for(words, rng):
    return ", ".join(rng.choice(TEMPLATES).format(w) for w in words) if words else rng.choice(PLAIN)


def descend(parameters, steps, rate, loss_of):
    params = list(parameters)
    opt = torch.optim.AdamW(params, lr=rate, weight_decay=1e-4)
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, rate, total_steps=steps, pct_start=0.1)
    seen = 0.0
    for i in range(steps):
        loss = loss_of(i)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        plan.step()
        seen = 0.98 * seen + 0.02 * loss.item() if i else loss.item()
        if (i + 1) % 100 == 0:
            print(f"  step {i + 1} of {steps}: loss {seen:.4f}", flush=True)


def train_autoencoder(pictures, seed, steps):
    """Colours of every style, so that the decoder can show what the UNet asks for."""
    vae, rng = AutoencoderTiny(**AUTOENCODER), random.Random(seed)
    checkpoints.fill(vae, seed, "vae")
    checkpoints.calibrate(vae, seed)
    for p in vae.parameters():
        p.requires_grad_(True)
    vae.train()

    def loss_of(_):
        x = torch.cat([styled(crops(pictures, rng, 3), some_words(rng)) for _ in range(4)])
        z = vae.encode(2 * x - 1).latents
        y = vae.decode(z).sample / 2 + 0.5
        edges = sum(F.l1_loss(y.diff(dim=d), x.diff(dim=d)) for d in (2, 3))
        scale = z.mean((0, 2, 3)).square().mean() + (z.std((0, 2, 3)) - 1).square().mean()
        return F.l1_loss(y, x) + 0.5 * edges + 0.02 * scale

    descend(vae.parameters(), steps, 3e-3, loss_of)
    return vae.eval()


@torch.no_grad()
def latent_bank(vae, pictures, rng):
    """Pairs of latents, crops before and after a style: [(words, before, after)]."""
    sets = (
        [()] * 6
        + [(w,) for w in sorted(STYLES)] * 2
        + [tuple(rng.sample(sorted(STYLES), 2)) for _ in range(16)]
    )
    bank = []
    for words in sets:
        x = crops(pictures, rng, 64)
        bank.append(
            (words, vae.encode(2 * x - 1).latents, vae.encode(2 * styled(x, words) - 1).latents)
        )
    return bank


def train_unet(vae, tokenizer, text, pictures, seed, steps):
    """From a noisy picture and a prompt to the picture in the prompt's colours (v-prediction).

    Half of the noisy pictures already have those colours: repeating a step changes nothing more.
    """
    unet, rng = UNet2DConditionModel(**UNET), random.Random(seed + 1)
    checkpoints.fill(unet, seed, "unet")
    for p in (*unet.parameters(), *text.parameters()):
        p.requires_grad_(True)
    unet.train(), text.train()
    noise = torch.Generator().manual_seed(seed)
    beta = torch.linspace(
        SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5, 1000
    ).square()
    abar = torch.cumprod(1 - beta, 0)
    bank = latent_bank(vae, pictures, rng)

    def loss_of(_):
        source, target, prompts = [], [], []
        for words, before, after in rng.sample(bank, 8):
            pick = rng.sample(range(len(before)), 4)
            source.append((after if rng.random() < 0.5 else before)[pick])
            target.append(after[pick])
            prompts.append(prompt_for(words, rng))
        z, want = torch.cat(source), torch.cat(target)
        t = torch.randint(19, 1000, (len(z),), generator=noise)
        a, s = (v[t].sqrt()[:, None, None, None] for v in (abar, 1 - abar))
        x = a * z + s * torch.randn(z.shape, generator=noise)
        ids = tokenizer(prompts, padding="max_length", max_length=77, truncation=True).input_ids
        states = text(torch.tensor(ids)).last_hidden_state.repeat_interleave(4, 0)
        v = unet(x, t, states).sample
        return F.mse_loss(a * x - s * v, want)

    descend([*unet.parameters(), *text.parameters()], steps, 2e-3, loss_of)
    return unet.eval()


CARD = """---
license: cc0-1.0
---
# A very small, nearly random Stable Diffusion checkpoint

For `make demo` and for tests of loading and running. It is **not** a picture generator.

- Format: a diffusers folder (UNet2DConditionModel, CLIPTextModel, CLIPTokenizer, AutoencoderTiny,
  LCMScheduler, v-prediction), fp16, {unet:,} + {text:,} + {vae:,} parameters. Loads in diffusers unchanged.
- Weights: random (seed {seed}), then {vae_steps} optimiser steps of the autoencoder and {unet_steps} of the UNet
  and text encoder, on {crop}x{crop} crops of five photographs. Made by `tests/oracle/make_demo_model.py`.
- What it can do: reproduce a picture roughly (8x8 pixels become 4 numbers), look through noise a little,
  and change colours when the prompt holds one of: {styles}.
- What it cannot: draw anything. It has never seen a caption; its vocabulary is made up.
- Photographs, all from scikit-image's bundled data: astronaut and Hubble deep field (NASA, public domain);
  Chelsea the cat (Stefan van der Walt, CC0), coffee (Rachel Michetti, CC0), rocket (SpaceX, CC0).
"""


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument(
        "--steps", type=int, default=700, help="of the autoencoder; the UNet gets twice as many"
    )
    args = p.parse_args()
    torch.manual_seed(args.seed)
    pictures = [*photographs()]

    shutil.rmtree(args.folder, ignore_errors=True)
    vocabulary.write(args.folder / "tokenizer", VOCABULARY, extra=sorted(STYLES))
    tokenizer = CLIPTokenizer.from_pretrained(str(args.folder / "tokenizer"))
    config = CLIPTextConfig(
        vocab_size=VOCABULARY, bos_token_id=VOCABULARY - 2, eos_token_id=VOCABULARY - 1, **TEXT
    )
    text = CLIPTextModel(config)
    checkpoints.fill(text, args.seed, "text_encoder")

    print("autoencoder")
    vae = train_autoencoder(pictures, args.seed, args.steps)
    print("denoiser")
    unet = train_unet(vae, tokenizer, text, pictures, args.seed, 2 * args.steps)

    checkpoints.save_pipeline(args.folder, unet, text.eval(), vae, SCHEDULER, torch.float16)
    count = {
        n: sum(w.numel() for w in m.parameters())
        for n, m in (("unet", unet), ("text", text), ("vae", vae))
    }
    (args.folder / "README.md").write_text(
        CARD.format(
            seed=args.seed,
            crop=CROP,
            vae_steps=args.steps,
            unet_steps=2 * args.steps,
            styles=", ".join(sorted(STYLES)),
            **count,
        )
    )


if __name__ == "__main__":
    main()
