"""AdamW as all parts of a run use it."""

from __future__ import annotations

import torch
from torch import nn

from train.recipe.sections import OptimizerConfig


def make_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the weights that are not frozen; each step sets its learning rate.

    Matrices decay. Codebooks, biases and norms do not: decay would change what they encode.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    decays = {name for name, p in named.items() if p.ndim > 1 and not name.endswith("codebook")}
    groups = [
        {
            "params": [(name, p) for name, p in named.items() if name in decays],
            "weight_decay": config.weight_decay,
        },
        {
            "params": [(name, p) for name, p in named.items() if name not in decays],
            "weight_decay": 0.0,
        },
    ]
    betas = (config.betas[0], config.betas[1])
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use ``rate`` for all weights in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
