"""Training of the autoencoder, both halves together.

It is judged by the error of pixels and of their differences. Latents are held at a mean square of 1, and
get a little noise, so that the decoder forgives the denoiser.
"""

import numpy as np
import torch
import torch.nn.functional as F

import networks
import start
from descent import Descent, Player
from muon import Muon

SIDE, BATCH, RATE = 96, 8, 1.5e-3
LATENT_NOISE = 0.05


def tensor(pictures):
    """uint8 [n, h, w, 3] to floats [n, 3, h, w] in -1..1, which is what diffusers' encoder takes."""
    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def difference(y, x):
    """Absolute error of neighbouring pixels' differences."""
    return sum(F.l1_loss(y.diff(dim=d), x.diff(dim=d)) for d in (2, 3))


def reconstruct(work, pictures, steps, seed):
    torch.manual_seed(seed)
    vae = networks.autoencoder()
    start.begin(vae, tensor(pictures.crops(np.random.default_rng(seed), 48, 64)))
    vae = vae.to(memory_format=torch.channels_last)

    def losses_of(rng):
        x = tensor(pictures.crops(rng, BATCH, SIDE))
        z = vae.encoder(x)
        y = vae.decoder(z + LATENT_NOISE * torch.randn_like(z))
        error = F.l1_loss(y, x) + 2 * F.mse_loss(y, x) + 0.5 * difference(y, x)
        return (error + 0.02 * (z.square().mean() - 1) ** 2,)

    player = Player({"vae": vae}, steps, rate=RATE, optimiser=Muon)
    Descent(work / "autoencoder.pt", steps, seed, player).run(losses_of)
    return vae.eval().requires_grad_(False)
