"""The loss balancer of EnCodec (arXiv:2210.13438, section 3.4).

The scale of a loss depends on its unit, so fixed weights have to be searched again for every loss
and every stage. The balancer measures the gradient of each loss at the decoded audio and scales it,
so that the weights become shares of the total gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
"""Mean of a tensor over all processes of a run."""


class Balancer:
    """Turns weights into the factors that make them shares of the gradient.

    Args:
        weights: share of each loss by name, relative to the others that are present.
        decay: decay of the running means of the gradients' norms, per step.
        total_norm: norm of the combined gradient, on average and if its parts align.
        reduce: with several processes, averages the norms so that all use the same factors.

    Attributes:
        state: running sum of each loss's norms and of their weights, ``{"mel.norm": ...,
            "mel.weight": ...}``: all that has to be saved to resume.

    Example:
        >>> balancer = Balancer({"mel": 3.0, "waveform": 1.0})
        >>> gradients = {"mel": torch.ones(4), "waveform": 1000 * torch.ones(4)}
        >>> gradient_shares(gradients, balancer.factors(gradients))
        {'mel': 0.75, 'waveform': 0.25}
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        decay: float = 0.999,
        total_norm: float = 1.0,
        reduce: Reduce | None = None,
    ) -> None:
        self.weights = dict(weights)
        self.decay = decay
        self.total_norm = total_norm
        self.reduce = reduce
        self.state: dict[str, float] = {}

    def factors(self, gradients: Mapping[str, Tensor]) -> dict[str, float]:
        """Factor of each gradient (eq. 4), after an update of the running means of their norms.

        A gradient of zero, as of silence, carries no information about the scale of its loss and is
        left out of the running mean. A loss whose gradients were all zero has the factor zero.

        Args:
            gradients: gradient of each loss at the decoded audio, from `audio_gradients`.
        """
        norms = _norms(gradients)
        if self.reduce is not None:
            norms = self.reduce(norms)
        total_weight = sum(self.weights[name] for name in gradients)
        factors = {}
        for name, norm in zip(gradients, norms.tolist()):
            if norm:
                for key, value in ((f"{name}.norm", norm), (f"{name}.weight", 1.0)):
                    self.state[key] = self.decay * self.state.get(key, 0.0) + value
            share = self.weights[name] / total_weight if total_weight else 0.0
            factors[name] = 0.0
            if f"{name}.norm" in self.state:
                mean = self.state[f"{name}.norm"] / self.state[f"{name}.weight"]
                factors[name] = self.total_norm * share / mean
        return factors


def audio_gradients(losses: Mapping[str, Tensor], decoded: Tensor) -> dict[str, Tensor]:
    """Gradient of each scalar loss with respect to the decoded audio; the graph is kept.

    ``decoded.backward(combine(gradients, factors))`` continues from the audio to the weights.
    """
    gradients = {}
    for name, loss in losses.items():
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, decoded, retain_graph=True, allow_unused=True)
        gradients[name] = torch.zeros_like(decoded) if gradient is None else gradient
    return gradients


def combine(gradients: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    """Sum of the gradients, each times its factor."""
    return torch.stack([factors[name] * value for name, value in gradients.items()]).sum(0)


def gradient_shares(
    gradients: Mapping[str, Tensor], factors: Mapping[str, float]
) -> dict[str, float]:
    """Each loss's share of the gradient norm: its share of the summed norms, in [0, 1].

    Args:
        gradients: gradient of each loss, from `audio_gradients`.
        factors: factor of each gradient: a fixed weight, or a factor of a `Balancer`.
    """
    norms = dict(zip(gradients, _norms(gradients).tolist()))
    sizes = {name: factors[name] * norm for name, norm in norms.items()}
    total = sum(sizes.values())
    return {name: size / total if total else 0.0 for name, size in sizes.items()}


def _norms(gradients: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([gradient.float().norm() for gradient in gradients.values()])
