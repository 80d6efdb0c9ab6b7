"""`Block`: the frames of a packet after analysis, from which the codes to send are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Block:
    """Frames of a packet that is not written yet.

    Attributes:
        codes: ``[G, K, T]``.
        slopes: ``[C, T, K]``, `codec.core.frames.slopes` of weighted errors; None where all codes
            are sent. Minus infinity for codes that are never sent: those of pauses, and all but the
            first one in the frames that stand for them.
        latent: ``[G, T, D]``, what the codes stand for; None unless other codes are searched for.
        weights: ``[C, T]``, of the errors of frames (`codec.core.frames.levels_and_weights`).
        is_silence: whether this is silence that need not be sent.
    """

    codes: npt.NDArray[np.int64]
    slopes: npt.NDArray[np.floating] | None = None
    latent: npt.NDArray[np.float32] | None = None
    weights: npt.NDArray[np.floating] | None = None
    is_silence: bool = False
