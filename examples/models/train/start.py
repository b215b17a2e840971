"""Where the autoencoder starts: principal components, solved layer by layer instead of descended to.

Its convolutions between blocks are linear, so from random weights it takes tens of thousands of steps
to find what is in closed form: the encoder's stages take the principal components of 2 x 2 squares of
the stage before, and the decoder's fit those features back by least squares. Blocks start as the
identity (a bias keeps what enters their ReLU positive) and are left to descent.
"""

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock

LIFT = 3.0  # standard deviations above zero, so that a ReLU passes nearly everything
TINY = 0.02  # of weights that are free to become something
WHITEN = 0.35  # latents' deviation is their component's to the power of 1 - 2 * this


def components(x, kernel, stride, count):
    """The first principal components of x's squares: filters [count, c, kernel, kernel], deviations."""
    rows = F.unfold(x, kernel, stride=stride).transpose(1, 2).flatten(0, 1)
    rows = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    count = min(count, len(values))
    filters = vectors.flip(1)[:, :count].T.reshape(count, x.shape[1], kernel, kernel)
    return filters, values.flip(0)[:count].clamp_min(1e-8).sqrt()


def fill(conv, filters):
    """filters on the last taps of conv's own, small random numbers elsewhere."""
    conv.weight.normal_(0, TINY / conv.weight[0].numel() ** 0.5)
    out, channels, kernel = filters.shape[:3]
    first = 1 if kernel < 3 else 0
    conv.weight[:out, :channels, first : first + kernel, first : first + kernel] = filters
    if conv.bias is not None:
        conv.bias.zero_()


def fit(conv, x, want):
    """conv so that conv(x) is as near to want as can be (ridge regression)."""
    rows = F.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1)
    goal = want.permute(0, 2, 3, 1).flatten(0, 2)
    if conv.bias is not None:
        rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    gram = rows.T @ rows / len(rows)
    gram += 1e-4 * gram.diagonal().mean() * torch.eye(len(gram))
    solved = torch.linalg.solve(gram, rows.T @ goal / len(rows)).T
    if conv.bias is not None:
        conv.bias.copy_(solved[:, -1])
        solved = solved[:, :-1]
    conv.weight.copy_(solved.reshape(conv.weight.shape))


def pass_through(block, lift):
    """The identity above -lift, with branches that have somewhere to go."""
    for i, gain in ((0, 1.4), (2, 1.4), (4, TINY)):
        block.conv[i].weight.normal_(0, gain / block.conv[i].weight[0].numel() ** 0.5)
        block.conv[i].bias.zero_()
    block.conv[4].bias.copy_(lift)


def lift_of(x):
    return LIFT * x.std((0, 2, 3)) - x.mean((0, 2, 3))


def start_encoder(layers, x):
    """Returns each stage's features behind its blocks, and the latents."""
    features, blocks, real = [], 0, x.shape[1]
    for i, layer in enumerate(layers[:-1]):
        if isinstance(layer, AutoencoderTinyBlock):
            pass_through(layer, torch.zeros(x.shape[1]) if blocks else lift_of(x))
            blocks += 1
        else:
            if i == 0:
                fill(layer, torch.eye(real)[:, :, None, None])
            else:
                features.append(x)
                filters, _ = components(x[:, :real], 2, 2, layer.out_channels)
                fill(layer, filters)
                real = len(filters)
            blocks = 0
        x = layer(x)
    features.append(x)
    filters, deviation = components(x, 1, 1, layers[-1].out_channels)
    scale = deviation ** (-2 * WHITEN)
    scale /= ((scale * deviation) ** 2).mean().sqrt()
    layers[-1].weight.normal_(0, TINY / layers[-1].weight[0].numel() ** 0.5)
    layers[-1].weight[:, :, 1, 1] = filters[:, :, 0, 0] * scale[:, None]
    layers[-1].bias.copy_(-(layers[-1].weight.sum((2, 3)) @ x.mean((0, 2, 3))))
    return features, layers[-1](x)


def start_decoder(layers, z, features, picture):
    x, goals, blocks = z, [f for f in reversed(features)], 0
    for i, layer in enumerate(layers):
        if isinstance(layer, AutoencoderTinyBlock):
            lifted = blocks or isinstance(layers[i - 1], torch.nn.ReLU)
            pass_through(layer, torch.zeros(x.shape[1]) if lifted else lift_of(x))
            blocks += 1
        elif isinstance(layer, torch.nn.Conv2d):
            want = goals.pop(0) if goals else picture
            if i == len(layers) - 1:
                want = picture
            elif i + 1 < len(layers) and isinstance(layers[i + 1], torch.nn.ReLU):
                want = want + lift_of(want)[:, None, None]
            fit(layer, x, want)
            blocks = 0
        x = layer(x)
    return x


@torch.no_grad()
def begin(vae, x):
    """x: pictures [n, 3, h, w] in -1..1. Leaves vae a linear autoencoder of them, near its best."""
    x = x / 2 + 0.5
    features, z = start_encoder(list(vae.encoder.layers), x)
    z = 3 * torch.tanh(z / 3)
    layers = list(vae.decoder.layers)
    return start_decoder(layers, z, features, x)
