"""One stage of training: players that descend, each on its own loss, and their checkpoints.

A stage is resumed from its last checkpoint, and repeats exactly: step i draws from generators that are
seeded by (seed, i), on one machine with the same number of threads.
"""

import time

import numpy as np
import torch

SAVE_SECONDS = 120
MEAN_DECAY = 0.998


def log(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def adam(weights, rate):
    return torch.optim.AdamW(weights, rate, betas=(0.9, 0.99), weight_decay=1e-4)


class Player:
    """Networks with one optimiser, one cycle of its rate, and a running mean of their weights."""

    def __init__(self, networks, steps, rate, optimiser=adam):
        self.networks = networks
        self.weights = [p for n in networks.values() for p in n.parameters() if p.requires_grad]
        self.optimiser = optimiser(self.weights, rate)
        self.plan = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser,
            rate,
            steps,
            pct_start=0.05,
            div_factor=10,
            final_div_factor=5,
            cycle_momentum=False,
        )
        self.mean = [p.detach().clone() for p in self.weights]

    def step(self, loss, done):
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward(inputs=self.weights)
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimiser.step()
        self.plan.step()
        decay = min(MEAN_DECAY, (1 + done) / (10 + done))
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.weights], 1 - decay)

    def use_mean(self):
        with torch.no_grad():
            for p, m in zip(self.weights, self.mean):
                p.copy_(m)

    def state(self):
        return dict(
            networks={n: m.state_dict() for n, m in self.networks.items()},
            optimiser=self.optimiser.state_dict(),
            plan=self.plan.state_dict(),
            mean=self.mean,
        )

    def load(self, state):
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.plan.load_state_dict(state["plan"])
        self.mean = state["mean"]


class Descent:
    def __init__(self, path, steps, seed, *players):
        self.path, self.steps, self.seed, self.players = path, steps, seed, players
        self.done, self.seen = 0, None
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.done, self.seen = state["done"], state["seen"]
            for player, part in zip(players, state["players"], strict=True):
                player.load(part)

    def _save(self):
        part = self.path.with_suffix(".part")
        players = [p.state() for p in self.players]
        torch.save(dict(players=players, done=self.done, seen=self.seen), part)
        part.replace(self.path)

    def _step(self, losses_of):
        torch.manual_seed(self.seed * 1_000_003 + self.done)
        losses = losses_of(np.random.default_rng((self.seed, self.done)))
        for player, loss in zip(self.players, losses, strict=True):
            player.step(loss, self.done)
        now = [loss.item() for loss in losses]
        self.seen = [0.98 * s + 0.02 * n for s, n in zip(self.seen or now, now)]
        self.done += 1

    def run(self, losses_of):
        """To the end; losses_of(rng) gives each player's loss. The networks of the first player are
        left with the running mean of their weights."""
        saved = time.monotonic()
        while self.done < self.steps:
            self._step(losses_of)
            if self.done % 100 == 0:
                seen = ", ".join(f"{s:.4f}" for s in self.seen)
                log(f"{self.path.stem}: step {self.done} of {self.steps}, loss {seen}")
            if time.monotonic() - saved > SAVE_SECONDS or self.done == self.steps:
                self._save()
                saved = time.monotonic()
        self.players[0].use_mean()
