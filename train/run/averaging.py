"""`WeightAverage`: the running average of a codec's weights, which is what gets saved and used."""

from __future__ import annotations

import copy

import torch

from codec.network.model import Codec

# An average over many steps would at first consist mostly of the initial weights.
GROWTH_STEPS = 10


class WeightAverage:
    """Exponential running average of the weights of a codec.

    Args:
        codec: the codec that is trained.
        decay: weight of the average before each step; smaller at the beginning of a run.

    Attributes:
        codec: a codec with the averaged weights.
    """

    def __init__(self, codec: Codec, decay: float) -> None:
        self.codec = copy.deepcopy(codec).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, codec: Codec, step: int) -> None:
        """Add the weights of ``codec`` after ``step`` steps."""
        decay = min(self._decay, step / (step + GROWTH_STEPS))
        torch._foreach_lerp_(list(self.codec.parameters()), list(codec.parameters()), 1 - decay)

    def restart(self, codec: Codec) -> None:
        """Start again from the weights of ``codec``."""
        self.codec.load_state_dict(codec.state_dict())
