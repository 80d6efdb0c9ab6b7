"""`Block`: the frames of a packet after analysis, from which the codes to send are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

UNLIMITED = 255
"""More codes than any frame has."""


@dataclass(frozen=True)
class Block:
    """Frames of a packet that is not written yet.

    Attributes:
        codes: ``[C, K, T]``: channel, codebook, frame.
        slopes: ``[C, T, K]``, `codec.rate.allocation.slopes` of weighted errors; None where all
            codes are sent.
        limits: ``[C, T]``, most codes of a frame: 0 in pauses, 1 in the frames that stand for them,
            `UNLIMITED` for all others; None if all frames are unlimited.
        latent: ``[C, T, D]``, what the codes stand for; None unless other codes are searched for.
        weights: ``[C, T]``, `codec.rate.allocation.perceptual_weight`; None as for ``latent``.
        is_silence: whether this is silence that need not be sent.
    """

    codes: npt.NDArray[np.int64]
    slopes: npt.NDArray[np.floating] | None = None
    limits: npt.NDArray[np.int64] | None = None
    latent: npt.NDArray[np.float32] | None = None
    weights: npt.NDArray[np.floating] | None = None
    is_silence: bool = False

    @property
    def num_frames(self) -> int:
        """T."""
        return int(self.codes.shape[2])
