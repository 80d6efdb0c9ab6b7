"""Augmentation: crops made more various, and inputs spoiled beside clean targets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codec.audio import Samples
from train.config import AugmentConfig


class Augmenter:
    """What a recipe's ``[augment]`` does to crops.

    Args:
        config: the recipe's.
        sample_rate: of the audio.
        num_samples: length of a crop.

    Attributes:
        num_source_samples: length of what a crop is made from.
    """

    def __init__(self, config: AugmentConfig, sample_rate: int, num_samples: int) -> None:
        self._config = config
        self.num_source_samples = num_samples

    def __call__(
        self, source: Samples, rng: np.random.Generator, draw_other: Callable[[], Samples]
    ) -> tuple[Samples, Samples]:
        """Input and target ``[n]`` from a source ``[num_source_samples]``."""
        config = self._config
        gain = 10 ** (rng.uniform(config.gain_db[0], config.gain_db[1]) / 20)
        sign = rng.choice([-1, 1]) if config.polarity else 1
        clean = (source * np.float32(sign * gain)).clip(-1, 1)
        return clean, clean
