"""AdamW and the course of its learning rate, the same in both stages."""

import math

import torch
from torch import nn


def adamw(model: nn.Module, rate: float) -> torch.optim.AdamW:
    """Return AdamW that leaves biases, norms and embeddings undecayed."""
    matrices = [(name, weight) for name, weight in model.named_parameters() if weight.ndim == 2]
    decayed = [weight for name, weight in matrices if "embeddings" not in name and not name.startswith("word")]
    chosen = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.98),
        fused=True,
    )


def set_rate(optimiser: torch.optim.Optimizer, highest: float, progress: float, warm_up: float = 0.02) -> float:
    """Set the learning rate: up along a line, down along a cosine to a hundredth.

    Parameters
    ----------
    optimiser : torch.optim.Optimizer
    highest : float
    progress : float
        From 0 to 1.
    warm_up : float
        The part of the run that the way up takes.

    Returns
    -------
    float
    """
    fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    rate = highest * min(1.0, (progress + 1e-6) / warm_up) * fall
    for group in optimiser.param_groups:
        group["lr"] = rate
    return rate
