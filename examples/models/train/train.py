"""Makes the model in one command: pictures, autoencoder, latents, denoiser. Resumable.

    python train.py FOLDER [--work WORK] [--seed N] [--sources N] [--...-steps N]

FOLDER becomes the diffusers folder; it is written anew after each stage. WORK (default: a folder
beside it) holds pictures, latents and checkpoints: the same command goes on where it stopped.
"""

import beside  # noqa: F401  (first)

import argparse
import pathlib

import torch

import autoencoder
import data
import denoiser
import networks


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--work", type=pathlib.Path)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--sources", type=int, default=800, help="photographs' crops and scenes")
    p.add_argument("--autoencoder-steps", type=int, default=3000)
    p.add_argument("--coarse-steps", type=int, default=6000)
    p.add_argument("--denoiser-steps", type=int, default=3800)
    p.add_argument("--sharpen-steps", type=int, default=3000)
    args = p.parse_args()
    args.work = args.work or args.folder.with_name(args.folder.name + "-work")
    args.work.mkdir(parents=True, exist_ok=True)
    return args


def train_denoiser(args, pictures, vae, unet, text):
    tokenizer = denoiser.tokenizer_of(args.folder, data.subjects())
    latents = denoiser.Latents(args.work, pictures, vae)

    def student(schedule, scale):
        batches = denoiser.Batches(pictures, latents, tokenizer, schedule, scale)
        return denoiser.Student(unet, text, batches)

    work, seed = args.work, args.seed
    coarse = student(networks.COARSE, 1.0)
    denoiser.learn(work / "denoiser.pt", coarse, args.coarse_steps, 1.2e-3, seed + 1)
    fine = student(networks.SCHEDULER, networks.AUTOENCODER["scaling_factor"])
    denoiser.learn(work / "fine.pt", fine, args.denoiser_steps, 8e-4, seed + 2)
    networks.save(args.folder, vae, unet, text)
    rates = 3e-4, 6e-4  # of the networks, of the critic
    denoiser.sharpen(work / "sharp.pt", fine, vae.decoder, args.sharpen_steps, rates, seed + 3)
    networks.save(args.folder, vae, unet, text)


def main():
    args = arguments()
    pictures = data.Pictures(args.work, args.sources, args.seed)
    vae = autoencoder.reconstruct(args.work, pictures, args.autoencoder_steps, args.seed)
    torch.manual_seed(args.seed + 1)
    train_denoiser(args, pictures, vae, networks.denoiser(), networks.text_encoder())


if __name__ == "__main__":
    main()
