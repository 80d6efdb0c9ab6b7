"""`Objective`: the weighted reconstruction losses of decoded audio.

The training step, validation and the training benchmark all compute their losses here, so that
their figures are about the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from codec.evaluation.mel import MEL_WINDOWS
from train.objective.losses import LOSSES, Input, View, evaluate_losses, match_level

# In a step spectra begin at up to this sample of a crop: frames half a window apart, at other
# places in every step, see as much as denser ones.
MAX_SHIFT = 1024
HOPS_PER_STEP = 2


class Objective:
    """The losses with a weight above zero; the others, and their transforms, are not computed.

    Args:
        weights: weight of each of `LOSSES` by name.
        sample_rate: of the audio, in Hz.
        windows_per_step: number of spectral windows that `draw_view` draws.

    Attributes:
        weights: the weights above zero, in the order of evaluation.

    Example:
        >>> import torch
        >>> from train.objective.losses import LOSSES
        >>> objective = Objective(dict.fromkeys(LOSSES, 0.0) | {"mel": 2.0}, sample_rate=24_000)
        >>> losses = objective(torch.rand(1, 1, 4_000), torch.rand(1, 1, 4_000))
        >>> list(losses)
        ['mel']
        >>> bool(objective.total(losses) == 2 * losses["mel"])
        True
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        sample_rate: int,
        windows_per_step: int = len(MEL_WINDOWS),
    ) -> None:
        self.weights = {name: weights[name] for name in LOSSES if weights[name]}
        self._losses = [LOSSES[name] for name in self.weights]
        self._compares_detail = any(loss.input is not Input.UNMATCHED for loss in self._losses)
        self._sample_rate = sample_rate
        self._windows_per_step = windows_per_step

    def draw_view(self, rng: np.random.Generator, num_samples: int) -> View:
        """A random part of what losses see in crops of ``num_samples``, different in every step.

        A few random windows per step, with fewer hops per window, cost less and train as well.
        """
        windows = rng.choice(MEL_WINDOWS, self._windows_per_step, replace=False)
        start = int(rng.integers(min(MAX_SHIFT, num_samples - max(windows) // 2)))
        return View(tuple(map(int, windows)), start, HOPS_PER_STEP)

    def __call__(
        self, decoded: Tensor, original: Tensor, view: View | None = None
    ) -> dict[str, Tensor]:
        """Each loss by name, unweighted.

        Args:
            decoded: ``[B, 1, N]``, at the level at which it was decoded.
            original: ``[B, 1, N]``.
            view: windows and offset of the spectra; all windows of the whole audio if None.

        Returns:
            Scalars.
        """
        matched = match_level(decoded, original) if self._compares_detail else decoded
        return evaluate_losses(
            self._losses, decoded, matched, original, self._sample_rate, view or View()
        )

    def total(self, losses: Mapping[str, Tensor]) -> Tensor | float:
        """Sum of the losses of a call, each times its weight."""
        return sum(weight * losses[name] for name, weight in self.weights.items())
