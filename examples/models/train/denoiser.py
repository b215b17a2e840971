"""Training of the denoiser and the text encoder, on latents of the frozen encoder.

A pair is a source and the same picture through a look. The denoiser sees the *source* under noise and
the look's prompt, and learns the look: x_t = alpha z_source + sigma noise, asked for z_target in one
step. Near the start of the schedule (little noise) the target is mostly the source, so that strength
fades a look in. The other pairs keep the rest of the promise:
  - the source is the target (a second step on what the first one made),
  - any prompt's place taken by "": the source itself (what guidance pulls away from),
  - the last timesteps are noise alone, where the prompt decides (text to picture).
"""

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTokenizer

import autoencoder
import captions
import data
import networks
from descent import Descent, Player, log

FULL_AT = 550  # timestep from which a look is whole
GRID = networks.SCHEDULER["num_train_timesteps"] // networks.SCHEDULER["original_inference_steps"]
WIDE = 0.25  # share of steps on whole pictures; the others are on quarters
PIXELS, CRITIC = 1.0, 0.3  # weights of what the decoded picture is judged by
HARD = ("oil", "neon", "pixel art", "stained glass", "comic")  # lines and flats that a mean blurs
HUBER = 0.15  # of latents: errors well below count squared, above absolutely


class Latents:
    """Latents of all pictures, [sources, VARIANTS, LATENT, 32, 32] fp16, kept in a file."""

    def __init__(self, folder, pictures, vae):
        n, side = pictures.shape[0], data.SIZE // 8
        self.shape = (n, data.VARIANTS, networks.LATENT, side, side)
        path = folder / f"latents-{n}.f16"
        if not path.exists():
            part = path.with_suffix(".part")
            out = np.memmap(part, np.float16, "w+", shape=self.shape)
            for i in range(n):
                with torch.no_grad():
                    out[i] = vae.encoder(autoencoder.tensor(pictures.images[i])).half().numpy()
                if (i + 1) % 100 == 0:
                    log(f"encoded {i + 1} of {n} sources")
            out.flush()
            part.rename(path)
        self.values = np.memmap(path, np.float16, "r", shape=self.shape)

    def crop(self, i, j, y, x, side):
        return self.values[i, j, :, y : y + side, x : x + side].astype(np.float32)


def pick_variant(rng, hard=0.0):
    """`hard`: share of the looks that are drawn from HARD alone"""
    looks = len(data.LOOKS)
    kind = rng.random()
    if kind < 0.12:
        return 0
    if kind < 0.82:
        if rng.random() < hard:
            return 1 + data.LOOKS.index(HARD[rng.integers(len(HARD))])
        return 1 + rng.integers(looks)
    return 1 + looks + rng.integers(data.TINTED + 1)


def pick_timestep(rng):
    """On LCM's grid; the middle, where video is restyled, more often."""
    steps = networks.SCHEDULER["original_inference_steps"]
    at = rng.integers(13, 41) if rng.random() < 0.55 else rng.integers(1, steps + 1)
    return GRID * at - 1


def pick_pair(rng, hard):
    """(variant under the noise, variant that is asked for, whether the prompt says so)"""
    target = pick_variant(rng, hard)
    kind = rng.random()
    if kind < 0.10:  # nothing is asked for: leave it as it is
        same = target if rng.random() < 0.5 else 0
        return same, same, False
    if kind < 0.34:
        return target, target, True
    if kind < 0.38:
        return int(rng.integers(data.VARIANTS)), target, True
    return 0, target, True


class Batches:
    """Pairs under the noise of one schedule; latents are `scale` times as large as the encoder's."""

    def __init__(self, pictures, latents, tokenizer, schedule, scale):
        self.pictures, self.latents, self.tokenizer = pictures, latents, tokenizer
        self.alpha, self.scale = networks.alphas(schedule), scale

    def draw(self, rng, share=1.0, hard=0.0):
        """x_t, t, token ids, the clean latent asked for, its kind; of a `share` of the usual number"""
        whole = self.latents.shape[-1]
        count, side = (8, whole) if rng.random() < WIDE else (32, whole // 2)
        count = int(count * share)
        source, target, t, prompts, kinds = [], [], [], [], []
        for _ in range(count):
            i = rng.integers(self.latents.shape[0])
            under, asked, said = pick_pair(rng, hard)
            y, x = (int(v) for v in rng.integers(0, whole - side + 1, 2))
            source.append(self.latents.crop(i, under, y, x, side))
            target.append(self.latents.crop(i, asked, y, x, side))
            t.append(pick_timestep(rng))
            prompts.append(self.pictures.caption(rng, i, asked) if said else "")
            kinds.append(self.pictures.kind(i, asked))
        source, target = (self.scale * torch.from_numpy(np.stack(v)) for v in (source, target))
        t = torch.tensor(t)
        a = self.alpha[t][:, None, None, None]
        part = (t / FULL_AT).clamp(0, 1)[:, None, None, None]
        want = torch.lerp(source, target, part * part * (3 - 2 * part))
        noisy = a * source + (1 - a * a).sqrt() * torch.randn_like(source)
        return noisy, t, tokens(self.tokenizer, prompts), want, torch.tensor(kinds)


def tokens(tokenizer, prompts):
    return torch.tensor(
        tokenizer(prompts, padding="max_length", max_length=77, truncation=True).input_ids
    )


class Student:
    """The denoiser and the text encoder, judged on one schedule."""

    def __init__(self, unet, text, batches):
        self.networks, self.batches = {"unet": unet.train(), "text": text.train()}, batches

    def clean(self, noisy, t, ids):
        """The estimate of the clean latent (v-prediction)."""
        a = self.batches.alpha[t][:, None, None, None]
        states = self.networks["text"](ids).last_hidden_state
        return a * noisy - (1 - a * a).sqrt() * self.networks["unet"](noisy, t, states).sample

    def error(self, estimate, want, t):
        """Pseudo-Huber of the clean latent, weighted towards little noise as v-prediction does."""
        s2 = 1 - self.batches.alpha[t] ** 2
        weight = (1 / (s2 + 0.15))[:, None, None, None]
        off = (estimate - want) / self.batches.scale
        return (weight * ((off**2 + HUBER**2).sqrt() - HUBER)).mean()


def learn(path, student, steps, rate, seed):
    def losses_of(rng):
        noisy, t, ids, want, _ = student.batches.draw(rng)
        return (student.error(student.clean(noisy, t, ids), want, t),)

    Descent(path, steps, seed, Player(student.networks, steps, rate)).run(losses_of)


class Critic(torch.nn.Module):
    """Tells pictures from the denoiser's, patch by patch, knowing which look and colour was asked for."""

    def __init__(self):
        super().__init__()
        widths = (3, 32, 64, 128, 128)
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(a, b, 4 if i < 3 else 3, 2 if i < 3 else 1, 1)
            for i, (a, b) in enumerate(zip(widths, widths[1:]))
        )
        self.norms = torch.nn.ModuleList(torch.nn.GroupNorm(8, w) for w in widths[1:])
        self.out = torch.nn.Conv2d(widths[-1], 1, 1)
        self.kinds = torch.nn.Embedding(data.KINDS, widths[-1])

    def forward(self, y, kind):
        for conv, norm in zip(self.convs, self.norms):
            y = F.leaky_relu(norm(conv(y)), 0.2)
        asked = self.kinds(kind)[:, :, None, None]
        return self.out(y) + (y * asked).sum(1, keepdim=True) / y.shape[1] ** 0.5


def sharpen(path, student, decoder, steps, rates, seed):
    """The same as learn, and judged by the picture that the decoder makes of the estimate: by its
    pixels, and by a critic, because a mean of all that fits is a blur."""
    torch.manual_seed(seed)
    critic, batches = Critic(), student.batches

    def losses_of(rng):
        noisy, t, ids, want, kind = batches.draw(rng, share=0.4, hard=0.5)
        got = student.clean(noisy, t, ids)
        y = decoder(got / batches.scale)
        with torch.no_grad():
            x = decoder(want / batches.scale)
        judged = critic(y.detach(), kind), critic(x, kind)
        strict = F.relu(1 + judged[0]).mean() + F.relu(1 - judged[1]).mean()
        pixels = F.l1_loss(y, x) + autoencoder.difference(y, x)
        return (
            student.error(got, want, t) + PIXELS * pixels - CRITIC * critic(y, kind).mean(),
            strict,
        )

    players = (student.networks, {"critic": critic})
    players = [Player(p, steps, rate) for p, rate in zip(players, rates)]
    Descent(path, steps, seed, *players).run(losses_of)


def tokenizer_of(folder, subjects):
    captions.write_tokenizer(folder / "tokenizer", networks.VOCABULARY, subjects)
    return CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
