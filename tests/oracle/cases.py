"""What is compared: prompts, sizes and whole frames, for tiny and for full-size models."""

import numpy as np
import torch

PROMPTS = [
    "a photo of a cat",
    "An oil painting of a castle by the sea, 1890s; high detail!",
    "",
    "watercolour " * 90,  # longer than the encoder reads
    "neon-lit street in the rain, 雨の夜, café ☕",
]

IMAGE = dict(steps=1, strength=0.6)
CAT = "a photo of a cat"
CASTLE = "a painting of a castle at night"

# Arguments of reference.Model.frame, and the same of the probe. "size" is (height, width).
TINY_FRAMES = {
    "img2img taesd": dict(IMAGE, size=(64, 64), prompts=CAT),
    "img2img vae odd size": dict(size=(72, 88), prompts=CAT, steps=4, strength=0.9, tiny=False),
    "img2img 4 steps": dict(size=(40, 104), prompts=CASTLE, steps=4),
    "txt2img": dict(size=(64, 72), prompts=CASTLE, text=True, steps=2),
    "guidance and negative": dict(
        size=(64, 64),
        prompts=CAT,
        steps=2,
        guidance=3.5,
        negative="blurry low quality",
        strength=0.8,
    ),
    "blend linear": dict(
        IMAGE, size=(64, 64), prompts=[(CAT, 0.7), (CASTLE, 2.0), ("the sea", 0.3)]
    ),
    "blend slerp": dict(IMAGE, size=(64, 64), prompts=[(CAT, 1.0), (CASTLE, 3.0)], method="slerp"),
    "t_index_list": dict(size=(64, 64), prompts=CAT, indices=[12, 24, 40], steps=50),
    "without renoising": dict(size=(64, 64), prompts=CAT, steps=3, add_noise=False),
    "resized input": dict(IMAGE, size=(64, 64), source=(100, 150), prompts=CAT),
    "cropped input": dict(IMAGE, size=(64, 64), source=(101, 150), prompts=CAT, fit="crop"),
}
FULL_FRAMES = {
    "img2img taesd": dict(IMAGE, size=(256, 256), prompts=CAT),
    "img2img vae, guidance": dict(
        size=(192, 256),
        prompts=CAT,
        steps=2,
        strength=0.7,
        guidance=2.0,
        negative="blurry low quality",
        tiny=False,
    ),
    "txt2img": dict(size=(256, 256), prompts=CASTLE, text=True, steps=2),
}

# Frames of the model that ships, against diffusers' pipelines. Steps of 1, 2 and 4 are what it is made
# for; 4 from text begin at pure noise.
SHIPPED_FRAMES = {
    "img2img 1 step": dict(IMAGE, prompts="oil painting"),
    "img2img 2 steps": dict(IMAGE, prompts="neon", steps=2),
    "img2img 4 steps": dict(IMAGE, prompts="a pencil drawing of a cat", steps=4),
    "guidance and negative": dict(
        IMAGE, prompts="stained glass", steps=2, guidance=2.5, negative="photo"
    ),
    "txt2img": dict(prompts="embers, a castle", text=True, steps=4),
}

# Arguments of stream.Stream: 12 frames each, with every kind of guidance, 1 to 4 steps, frame buffers.
STREAM_FRAMES = 12
LESS = dict(prompts=CAT, strength=0.9, guidance=2.0, negative="blurry low quality")
STREAMS = {
    "1 step self": dict(LESS, cfg="self", delta=0.7),
    "1 step initialize": dict(LESS, cfg="initialize", delta=0.7),
    "2 steps": dict(prompts=CAT, strength=0.8, steps=2),
    "2 steps none": dict(LESS, steps=2, cfg="none"),
    "2 steps full": dict(LESS, steps=2, cfg="full"),
    "2 steps self": dict(LESS, steps=2, cfg="self", delta=0.5),
    "2 steps initialize": dict(LESS, steps=2, cfg="initialize", delta=0.5),
    "3 steps self by index": dict(LESS, steps=50, indices=[12, 24, 40], cfg="self"),
    "4 steps self": dict(LESS, steps=4, cfg="self", delta=0.7),
    "4 steps initialize": dict(LESS, steps=4, cfg="initialize", delta=0.7),
    "4 steps full": dict(LESS, steps=4, cfg="full"),
    "4 timesteps": dict(prompts=CASTLE, timesteps=[949, 749, 499, 249], steps=4),
    "without renoising": dict(LESS, steps=3, cfg="self", add_noise=False),
    "1 step, 2 frames a call": dict(LESS, cfg="self", frames=2),
    "2 steps, 2 frames a call": dict(LESS, steps=2, cfg="initialize", delta=0.7, frames=2),
    "3 steps, 2 frames a call": dict(LESS, steps=3, cfg="full", frames=2),
    "4 steps, 2 frames a call": dict(LESS, steps=4, cfg="self", delta=0.7, frames=2),
    "4 steps, one after the other": dict(LESS, steps=4, cfg="initialize", delta=0.7, batch=False),
}

# Latent size, timestep and, for models that take one, guidance scale of each UNet comparison.
TINY_UNETS = [(8, 8, 499, 8.0), (5, 7, 999, 1.0), (1, 3, 19, 4.5)]
UNETS = {
    "tiny": [(32, 32, 599, 1.0), (5, 7, 999, 1.0)],
    "sd15": [(64, 64, 499, 1.0)],
    "sd21": [(40, 56, 499, 1.0)],
    "turbo": [(64, 64, 999, 1.0)],
    "lcm": [(48, 64, 259, 8.0)],
}

SCHEDULES = [
    dict(steps=1, strength=1.0),
    dict(steps=2, strength=1.0),
    dict(steps=4, strength=1.0),
    dict(steps=8, strength=1.0),
    dict(steps=25, strength=1.0),
    dict(steps=50, strength=1.0),
    dict(steps=1, strength=0.99),
    dict(steps=1, strength=0.58),
    dict(steps=1, strength=0.02),
    dict(steps=2, strength=0.5),
    dict(steps=3, strength=0.9),
    dict(steps=7, strength=0.33),
    dict(steps=50, strength=1.0, indices=[0, 16, 32, 45]),
    dict(steps=4, strength=1.0, indices=[1, 2]),
    dict(steps=50, strength=1.0, indices=[49]),
]


def frame_command(given, size, seed):
    """The probe's fields for arguments of reference.Model.frame."""
    command = dict(
        dict(strength=1.0, guidance=1.0, negative="", method="linear", tiny=True, add_noise=True),
        **given,
    )
    if isinstance(command["prompts"], str):
        command["prompts"] = [(command["prompts"], 1.0)]
    return dict(command, seed=seed, height=size[0], width=size[1])


def picture(height, width, seed):
    """A u8 [H, W, 3] picture with edges, smooth parts and a little noise."""
    g = torch.Generator().manual_seed(seed)
    base = torch.rand(1, 3, 6, 8, generator=g)
    soft = torch.nn.functional.interpolate(base, (height, width), mode="bicubic")
    hard = torch.nn.functional.interpolate(base.roll(1, 1), (height, width), mode="nearest")
    x = 0.6 * soft + 0.3 * hard + 0.1 * torch.rand(1, 3, height, width, generator=g)
    return (x.clamp(0, 1)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def film(height, width, count, seed):
    """u8 [count, H, W, 3]: pictures that have nothing in common, so that no frame passes for another."""
    return np.stack([picture(height, width, seed + i) for i in range(count)])


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def nhwc(x):
    return x.permute(0, 2, 3, 1).contiguous().numpy()


def nchw(x):
    return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).contiguous()
