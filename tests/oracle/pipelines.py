"""Frames by diffusers' own Stable Diffusion pipelines, from a folder that they load unchanged.

Three things are given to them: the noise, as in reference.py; the timesteps, because for a strength
these pipelines drop steps from the list's beginning, where LCM (and ours) stretches the list; and the
mean of AutoencoderKL's latents, where they draw a sample.
"""

from unittest import mock

import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as img2img
from diffusers.pipelines.stable_diffusion_xl import (
    pipeline_stable_diffusion_xl_img2img as xl_img2img,
)
from diffusers.schedulers import scheduling_lcm

import cases


class Pipelines:
    def __init__(self, folder, xl=False):
        classes = (StableDiffusionImg2ImgPipeline, StableDiffusionPipeline)
        if xl:
            classes = (StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline)
        self.from_image, self.from_text = (
            c.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
            for c in classes
        )
        for p in (self.from_image, self.from_text):
            p.set_progress_bar_config(disable=True)

    def frame(self, noise, timesteps, prompt, size, image=None, guidance=1.0, negative=""):
        """The last latent [1, c, h, w] as the decoder takes it, and the picture [H, W, 3] in 0..1.

        image: u8 [H, W, 3], of this size, or None; noise: one [1, c, h, w] per step.
        """
        given = dict(prompt=prompt, negative_prompt=negative or None, guidance_scale=guidance)
        given.update(timesteps=timesteps, output_type="latent")
        left = iter(noise)
        if image is None:
            given.update(latents=next(left), height=size[0], width=size[1])
        else:
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
            given.update(image=pixels, strength=1.0)  # of the timesteps given: all
        pipe = self.from_text if image is None else self.from_image

        def draw(*args, **kwargs):
            return next(left)

        with (
            mock.patch.object(scheduling_lcm, "randn_tensor", draw),
            mock.patch.object(img2img, "randn_tensor", draw),
            mock.patch.object(xl_img2img, "randn_tensor", draw),
            mock.patch.object(DiagonalGaussianDistribution, "sample", mean),
            torch.no_grad(),
        ):
            z = pipe(**given).images / pipe.vae.config.scaling_factor
            y = pipe.vae.decode(z).sample
        return z, pipe.image_processor.postprocess(y, output_type="np")[0]


def mean(distribution, generator=None):
    return distribution.mean


def frames(ref, probe, image, seed):
    """Each of cases.SHIPPED_FRAMES: its label, the probe's command for it on a tensor "image", and what
    the pipelines make of it: the latent in the probe's order, and the picture."""
    size = image.shape[:2]
    count = max(c["steps"] for c in cases.SHIPPED_FRAMES.values())
    probe.ask("noise", "noise", seed=seed, count=count, h=size[0] // 8, w=size[1] // 8)
    probe.run()
    noise = [cases.nchw(n[None]) for n in probe.get("noise")]
    theirs = Pipelines(ref.folder, ref.xl)
    for label, case in cases.SHIPPED_FRAMES.items():
        given = {k: v for k, v in case.items() if k != "text"}
        command = cases.frame_command(dict(given, tiny=ref.is_tiny(False)), size, seed)
        if not case.get("text"):
            command["image"] = "image"
        z, y = theirs.frame(
            noise,
            ref.plan(command["steps"], command["strength"])[1],
            case["prompts"],
            size,
            None if case.get("text") else image,
            command["guidance"],
            command["negative"],
        )
        yield label, command, cases.nhwc(z), y
