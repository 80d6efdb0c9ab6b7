"""Names of arrays, by what they hold. C counts channels, K codebooks, T frames, n samples."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.float32]
"""Audio, nominally in [-1, 1]: ``[n]`` for one channel, ``[C, n]`` for several."""

Codes: TypeAlias = npt.NDArray[np.int64]
"""Codes ``[C, K, T]``. In streams of variable bitrate those of a frame's upper codebooks may be
absent: `codec.entropy.context.NO_CODE`."""

StoredCodes: TypeAlias = npt.NDArray[np.uint16]
"""Codes of one channel as tokens are stored, ``[T, K]``."""

Latents: TypeAlias = npt.NDArray[np.float32]
"""What codes stand for: a vector for each frame."""

Histogram: TypeAlias = npt.NDArray[np.int64]
"""How often each code of each codebook occurs, ``[K, size of a codebook]``."""

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Booleans: TypeAlias = npt.NDArray[np.bool_]
