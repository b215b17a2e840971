"""The same networks and frames in PyTorch, fp32, from diffusers modules.

Nothing here looks at our C code: networks are diffusers', the schedule is diffusers' LCMScheduler,
guidance, blending and the order of a frame are written from their formulas. Only the noise is ours
(the probe dumps it), because two random number generators cannot be compared.
"""

import json
import pathlib
from unittest import mock

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, LCMScheduler, UNet2DConditionModel
from diffusers.schedulers import scheduling_lcm
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

for quiet in (diffusers_logging, transformers_logging):
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()


class Model:
    """One checkpoint folder; each network is loaded in fp32 on first use and dropped on request."""

    LOADERS = {
        "unet": lambda d: UNet2DConditionModel.from_pretrained(d, torch_dtype=torch.float32),
        "text_encoder": lambda d: CLIPTextModel.from_pretrained(d, dtype=torch.float32),
        "text_encoder_2": lambda d: CLIPTextModelWithProjection.from_pretrained(
            d, dtype=torch.float32
        ),
        "tokenizer": CLIPTokenizer.from_pretrained,
        "tokenizer_2": CLIPTokenizer.from_pretrained,
        "taesd": lambda d: AutoencoderTiny.from_pretrained(d, torch_dtype=torch.float32),
    }

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.loaded = {}
        self.xl = (self.folder / "text_encoder_2").exists()
        self.schedule = json.loads((self.folder / "scheduler/scheduler_config.json").read_text())

    def __getattr__(self, name):
        if name not in self.LOADERS and name != "vae":
            raise AttributeError(name)
        if name not in self.loaded:
            path = str(self.folder / name)
            if name == "vae":
                kind = json.loads((self.folder / "vae/config.json").read_text())["_class_name"]
                cls = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}[kind]
                net = cls.from_pretrained(path, torch_dtype=torch.float32)
            else:
                net = self.LOADERS[name](path)
            self.loaded[name] = net.eval() if isinstance(net, torch.nn.Module) else net
        return self.loaded[name]

    def drop(self, *names):
        for name in names or list(self.loaded):
            self.loaded.pop(name, None)

    # ---- text ----

    def ids(self, text):
        return self.tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids

    @torch.no_grad()
    def embed_ids(self, ids):
        """The rows [1, 77, C], and SDXL's pooled text [1, P] or None.

        SDXL's second encoder was trained on the first's tokens, padded with "!"."""
        given = torch.tensor([ids])
        if not self.xl:
            return self.text_encoder(given).last_hidden_state, None
        one = self.text_encoder(given, output_hidden_states=True).hidden_states[-2]
        end = ids.index(self.tokenizer.eos_token_id) + 1
        given[0, end:] = self.tokenizer_2.pad_token_id
        two = self.text_encoder_2(given, output_hidden_states=True)
        return torch.cat([one, two.hidden_states[-2]], -1), two.text_embeds

    @torch.no_grad()
    def embed_skipping(self, ids, layers):
        """The rows [1, 77, C] with so many of the last layers left out (diffusers' clip_skip), of a
        model with one text encoder."""
        states = self.text_encoder(torch.tensor([ids]), output_hidden_states=True).hidden_states
        net = getattr(self.text_encoder, "text_model", self.text_encoder)
        return net.final_layer_norm(states[-(layers + 1)])

    def embed(self, prompts, method="linear"):
        """A prompt, or a list of (text, weight): as embed_ids. The pooled text is blended as one token."""
        if isinstance(prompts, str):
            return self.embed_ids(self.ids(prompts))
        e = [self.embed_ids(self.ids(text)) for text, _ in prompts]
        w = [weight for _, weight in prompts]
        rows = blend([rows[0] for rows, _ in e], w, method)[None]
        return rows, blend([pooled for _, pooled in e], w, method) if self.xl else None

    def embed_unwanted(self, text):
        """SDXL's diffusers pipelines take zeros for no negative prompt."""
        if text or not self.xl:
            return self.embed(text)
        return tuple(torch.zeros_like(e) for e in self.embed(text))

    # ---- pictures and latents ----

    def autoencoder(self, tiny):
        """TAESD when it is asked for and there; a folder may also have one as its vae."""
        return self.taesd if tiny and (self.folder / "taesd").exists() else self.vae

    def is_tiny(self, tiny):
        return isinstance(self.autoencoder(tiny), AutoencoderTiny)

    @torch.no_grad()
    def encode(self, x, tiny):
        """x [1, 3, H, W] in -1..1 to the latent that the UNet sees; the mean, not a sample."""
        vae = self.autoencoder(tiny)
        if isinstance(vae, AutoencoderTiny):
            return vae.encode(x).latents * vae.config.scaling_factor
        return vae.encode(x).latent_dist.mode() * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, z, tiny):
        vae = self.autoencoder(tiny)
        return vae.decode(z / vae.config.scaling_factor).sample

    # ---- the denoiser ----

    def guidance_embedding(self, scale):
        """LCM's embedding of w = scale - 1 (Luo et al. 2023): [sin(1000 w f), cos(1000 w f)].

        In double: at w = 7 the angles reach 7000, where diffusers' fp32 ones are off by 4e-4, more
        than the rest of the network adds.
        """
        dim = self.unet.config.time_cond_proj_dim
        if not dim:
            return None
        f = torch.exp(
            torch.arange(dim // 2, dtype=torch.float64) * -(np.log(10000.0) / (dim // 2 - 1))
        )
        angle = 1000.0 * (scale - 1.0) * f
        return torch.cat([angle.sin(), angle.cos()])[None].float()

    def added(self, x, pooled):
        """What SDXL is told beside the rows of text: the pooled text, and the size of the frame."""
        if not self.xl:
            return None
        n, h, w = len(x), 8 * x.shape[2], 8 * x.shape[3]
        sizes = torch.tensor([[h, w, 0, 0, h, w]])
        return {"text_embeds": pooled.expand(n, -1), "time_ids": sizes.expand(n, -1)}

    @torch.no_grad()
    def denoise(self, x, t, context, cond=None):
        """context: rows and pooled text, or None for it."""
        states, pooled = context
        return self.unet(
            x,
            torch.tensor([t]),
            encoder_hidden_states=states,
            timestep_cond=cond,
            added_cond_kwargs=self.added(x, pooled),
        ).sample

    def taps(self, x, t, context, cond=None):
        """The output, and the output of every part of the UNet by its diffusers name."""
        found, hooks = {}, []

        def watch(name):
            def hook(_module, _args, result):
                y = result[0] if isinstance(result, tuple) else getattr(result, "sample", result)
                found[name] = y.detach().clone()

            return hook

        for name, module in self.unet.named_modules():
            if tap_name(name):
                hooks.append(module.register_forward_hook(watch(name)))
        try:
            return self.denoise(x, t, context, cond), found
        finally:
            for h in hooks:
                h.remove()

    # ---- the schedule ----

    def scheduler(self):
        keep = (
            "num_train_timesteps",
            "beta_start",
            "beta_end",
            "beta_schedule",
            "prediction_type",
            "original_inference_steps",
            "timestep_scaling",
            "rescale_betas_zero_snr",
        )
        given = {k: self.schedule[k] for k in keep if k in self.schedule}
        # Its formulas in double: in fp32, 1 - alphas_cumprod has few digits left where noise is little.
        with mock.patch.object(torch, "float32", torch.float64):
            return LCMScheduler(**given)

    def plan(self, steps, strength=1.0, indices=None):
        """The scheduler with its timesteps set, and the timesteps that are run."""
        s = self.scheduler()
        if indices:
            if max(indices) >= steps:
                steps = s.config.original_inference_steps
            s.set_timesteps(steps)
            chosen = [int(s.timesteps[i]) for i in indices]
        else:
            s.set_timesteps(steps, strength=strength)
            chosen = [int(t) for t in s.timesteps]
        # LCMScheduler renoises to the next entry of its own list: make that list ours.
        s.timesteps = torch.tensor(chosen)
        s.num_inference_steps = len(chosen)
        s._step_index = None
        return s, chosen

    # ---- a frame ----

    def frame(
        self,
        noise,
        prompts,
        *,
        image=None,
        steps=1,
        strength=1.0,
        indices=None,
        guidance=1.0,
        negative="",
        method="linear",
        tiny=True,
        add_noise=True,
        size=None,
        fit="stretch",
    ):
        """image: u8 [H, W, 3] or None, fitted to size (height, width); noise: one [1, c, h, w] per
        step. Returns floats in 0..1."""
        s, timesteps = self.plan(steps, strength, indices)
        context = self.embed(prompts, method)
        cond = self.guidance_embedding(guidance)
        classifier_free = guidance > 1 and cond is None
        unwanted = self.embed_unwanted(negative) if classifier_free else None
        if image is None:
            x = noise[0]
        else:
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
            if fit == "crop":
                pixels = middle(pixels, *size)
            if size and pixels.shape[2:] != tuple(size):
                pixels = torch.nn.functional.interpolate(
                    pixels, size, mode="bilinear", antialias=True
                )
            z = self.encode(2 * pixels - 1, tiny)
            x = s.add_noise(z, noise[0], torch.tensor([timesteps[0]]))
        for i, t in enumerate(timesteps):
            eps = self.denoise(x, t, context, cond)
            if classifier_free:
                u = self.denoise(x, t, unwanted, cond)
                eps = u + guidance * (eps - u)
            again = noise[i + 1] if i + 1 < len(timesteps) else None
            x = step(s, eps, t, x, again if add_noise or again is None else torch.zeros_like(again))
        y = self.decode(x, tiny)[0].permute(1, 2, 0).numpy()
        return np.clip(y / 2 + 0.5, 0, 1)


def step(s, eps, t, x, noise):
    """LCMScheduler.step with the given noise in place of a random one."""
    draw, scheduling_lcm.randn_tensor = scheduling_lcm.randn_tensor, lambda *a, **k: noise
    try:
        return s.step(eps, torch.tensor(t), x, return_dict=False)[0]
    finally:
        scheduling_lcm.randn_tensor = draw


def middle(x, height, width):
    """The largest middle part of a picture that has the shape height : width."""
    h, w = x.shape[2:]
    if w * height > h * width:
        part = int(h * width / height + 0.5)
        return x[..., (w - part) // 2 :][..., :part]
    part = int(w * height / width + 0.5)
    return x[:, :, (h - part) // 2 :][:, :, :part]


def blend(e, weights, method):
    """[tokens, C] tensors to one. Formulas: Scope's EmbeddingBlender."""
    e = [one.double() for one in e]
    w = np.array(weights, dtype=np.float64)
    w = w / w.sum() if w.sum() > 0 else np.full(len(e), 1 / len(e))
    if method == "slerp" and len(e) == 2:
        return slerp(e[0], e[1], w[1]).float()
    total = sum(wi * ei for wi, ei in zip(w, e))
    want = sum(wi * ei.norm() for wi, ei in zip(w, e))
    if len(e) > 1:
        total = total * want / total.norm()
    return total.float()


def slerp(a, b, t):
    """Per token, along the great circle between the directions of a and b."""
    ua, ub = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    omega = torch.acos((ua * ub).sum(-1, keepdim=True).clamp(-1, 1))
    so = torch.sin(omega)
    flat = so < 1e-6
    so = torch.where(flat, torch.ones_like(so), so)
    ka = torch.where(flat, torch.full_like(so, 1 - t), torch.sin((1 - t) * omega) / so)
    kb = torch.where(flat, torch.full_like(so, t), torch.sin(t * omega) / so)
    return ka * a + kb * b


def tap_name(name):
    """Is this module one that we compare? Resnets, transformers, samplers and the ends."""
    parts = name.split(".")
    if name in ("time_embedding", "add_embedding", "conv_in", "conv_out"):
        return True
    return (
        len(parts) >= 3
        and parts[-1].isdigit()
        and parts[-2] in ("resnets", "attentions", "downsamplers", "upsamplers")
        and "blocks" in parts[0] + "blocks"
    )
