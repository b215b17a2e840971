"""The stream batch in PyTorch, from its formulas: each call puts new frames into the first rows, runs the
network once over all rows and moves every row on by one step.

Written from the published algorithm (Kodaira et al. 2023, StreamDiffusion), with what its code gets wrong
put right: prediction types, frame buffers of several frames (a shift by that many rows, all of them come
out), and one step alone, whose stock noise is that of the frame itself. Networks are diffusers', numbers of
a step LCMScheduler's; only the noise is ours. The stream is primed as the originals' demos do it: the first
frames are fed as often as there are steps.
"""

import torch


class Stream:
    def __init__(
        self,
        ref,
        noise,
        prompts,
        *,
        steps=1,
        strength=1.0,
        indices=None,
        timesteps=None,
        guidance=1.0,
        cfg="full",
        delta=1.0,
        negative="",
        tiny=True,
        add_noise=True,
        frames=1,
    ):
        """noise: one [1, c, h, w] per step."""
        self.ref, self.tiny, self.add_noise, self.frames = ref, tiny, add_noise, frames
        schedule, grid = ref.plan(steps, strength, indices)
        t = torch.tensor(timesteps or grid)
        abar = schedule.alphas_cumprod[t].double()
        rows = lambda x: x.float().repeat_interleave(frames)[:, None, None, None]
        skip, out = schedule.get_scalings_for_boundary_condition_discrete(t.double())
        self.t = t.repeat_interleave(frames)
        self.a, self.b = rows(abar.sqrt()), rows((1 - abar).sqrt())
        self.skip, self.out = rows(skip), rows(out)
        self.e = torch.cat([n for n in noise for _ in range(frames)])
        self.prediction = schedule.config.prediction_type
        self.context = ref.embed(prompts)
        self.cond = ref.guidance_embedding(guidance)
        self.g, self.delta = guidance, delta
        self.kind = cfg if guidance > 1 and self.cond is None else "none"
        self.unwanted = (
            ref.embed_unwanted(negative) if self.kind in ("full", "initialize") else None
        )
        self.steps = len(t)
        self.x = self.s = None

    @torch.no_grad()
    def estimate(self, x, t, context):
        """The network's estimate of the noise in x, whatever it predicts."""
        n, (states, pooled) = len(x), context
        cond = None if self.cond is None else self.cond.expand(n, -1)
        y = self.ref.unet(
            x,
            t,
            encoder_hidden_states=states.expand(n, -1, -1),
            timestep_cond=cond,
            added_cond_kwargs=self.ref.added(x, pooled),
        ).sample
        a, b = self.a[:n], self.b[:n]  # rows that are asked about always begin with the first
        if self.prediction == "v_prediction":
            return a * y + b * x
        return (x - a * y) / b if self.prediction == "sample" else y

    def guided(self, x):
        f = self.frames
        p = self.estimate(x, self.t, self.context)
        if self.kind == "none":
            return p
        if self.kind == "full":
            u = self.estimate(x, self.t, self.unwanted)
        else:
            if self.kind == "initialize":
                self.s[:f] = self.estimate(x[:f], self.t[:f], self.unwanted)
            u = self.delta * self.s
        return u + self.g * (p - u)

    def denoised(self, x, eps):
        return self.out * (x - self.b * eps) / self.a + self.skip * x

    def call(self, z):
        """Latents [frames, c, h, w] of new frames to the latents that come out."""
        f, n = self.frames, self.steps
        x, s = self.a[:f] * z + self.b[:f] * self.e[:f], self.e[:f].clone()
        if n > 1:  # until the stream is primed, what is not there yet is nothing
            held = (n - 1) * f
            self.x = torch.cat([x, torch.zeros(held, *x.shape[1:]) if self.x is None else self.x])
            self.s = torch.cat(
                [s, torch.zeros_like(self.x[f:]) if self.s is None else self.s[:held]]
            )
        else:
            self.x, self.s = x, s
        eps = self.guided(self.x)
        d = self.denoised(self.x, eps)
        if self.kind in ("self", "initialize"):
            noise = self.b * self.s
            residual = self.out * (noise - self.b * eps) / self.a + self.skip * noise
            one = torch.ones_like(self.a[:f])
            a, b = torch.cat([self.a[f:], one]), torch.cat([self.b[f:], one])
            self.s = torch.cat([self.e[f:], self.e[:f]]) + a / b * residual
        self.x = self.a[f:] * d[:-f]
        if self.add_noise:
            self.x = self.x + self.b[f:] * self.e[f:]
        return d[-f:]

    def run(self, images):
        """u8 [T, H, W, 3], a multiple of the frame buffer -> latents before the decoder [T, c, h, w] and
        pictures [T, H, W, 3] in 0..1. Call k shows the frames of n - 1 calls ago, or the first ones.
        """
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        z = torch.cat([self.ref.encode(one[None], self.tiny) for one in x]).split(self.frames)
        for _ in range(self.steps - 1):
            self.call(z[0])
        y = torch.cat([self.call(group) for group in z])
        pictures = torch.cat([self.ref.decode(one[None], self.tiny) for one in y])
        pictures = (pictures / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        return y / self.ref.autoencoder(self.tiny).config.scaling_factor, pictures


def command(case, size, seed):
    """The probe's fields for arguments of Stream."""
    given = dict(strength=1.0, guidance=1.0, negative="", tiny=True, add_noise=True, steps=1)
    given.update(cfg="full", delta=1.0, frames=1, batch=True, method="linear")
    given.update(case)
    given["prompts"] = [(given["prompts"], 1.0)]
    return dict(given, seed=seed, height=size[0], width=size[1])
