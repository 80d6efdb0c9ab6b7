"""Levels of frames, and what is quiet beside the loudest of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codec.arrays import Samples
from codec.core.frames import levels_and_weights

Levels = npt.NDArray[np.floating]
"""In dB of full scale."""
LOWEST_DB = -200.0


def frame_levels(frames: Samples) -> Levels:
    """Levels ``[...]`` of frames ``[..., hop_length]``."""
    return levels_and_weights(frames)[0]


class LoudestLevel:
    """The loudest level so far, which counts less and less.

    Args:
        decay_db: its decrease per second.

    Attributes:
        db: the level in dB of full scale.

    Example:
        >>> loudest = LoudestLevel(decay_db=0.25)
        >>> for level in (-60.0, -20.0, -50.0):
        ...     loudest.follow(np.array([level]), seconds=2.0)
        >>> loudest.db
        -20.5
    """

    def __init__(self, decay_db: float) -> None:
        self._decay_db = decay_db
        self.db = LOWEST_DB

    def follow(self, levels: Levels, seconds: float) -> None:
        """Take the levels of the next frames into account, which last so many seconds."""
        self.db = max(self.db - self._decay_db * seconds, float(levels.max(initial=LOWEST_DB)))
