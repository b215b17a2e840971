"""Muon: momentum, orthogonalised for matrices and filters; scaled like Adam for vectors.

Every direction of a weight moves equally far, which is what a chain of convolutions without norms
needs: its inputs' means are much larger than what varies. Source: Jordan et al. 2024, "Muon: an
optimizer for hidden layers in neural networks" (coefficients of the Newton-Schulz iteration).
"""

import torch


def orthogonal(g):
    """Nearly the orthogonal factor of g's polar decomposition, [m, n]."""
    x = g / (g.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, weights, lr, momentum=0.95, vector_rate=0.1):
        super().__init__(weights, dict(lr=lr, momentum=momentum, vector_rate=vector_rate))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p)
                state["m"].mul_(group["momentum"]).add_(p.grad)
                if p.ndim > 1:
                    ahead = (p.grad + group["momentum"] * state["m"]).flatten(1)
                    wide = max(1, ahead.shape[0] / ahead.shape[1]) ** 0.5
                    p.add_(orthogonal(ahead).reshape(p.shape), alpha=-wide * group["lr"])
                else:
                    state["v"].mul_(0.99).addcmul_(p.grad, p.grad, value=0.01)
                    move = p.grad / (state["v"].sqrt() + 1e-8)
                    p.add_(move, alpha=-group["vector_rate"] * group["lr"])
