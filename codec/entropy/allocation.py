"""How many codebooks each frame of a stream of variable bitrate gets.

Bits go where they lower the error most: a codebook is sent if it lowers the error of its frame by
more than a threshold per bit. For a given number of bits this gives the least error in all (Shoham
and Gersho, 1988, doi:10.1109/29.90373).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating]


def gains(errors: Floats, prices: Floats) -> Floats:
    """What each codebook of a frame is worth: how much it lowers the error per bit.

    A codebook that pays only together with those after it is worth what they are worth together,
    and none is worth more than the one before it.

    Args:
        errors: ``[..., K]``, errors that remain after each codebook.
        prices: ``[K]`` bits of a code of each codebook.

    Returns:
        ``[..., K]``, never rising along the codebooks. That of the first, which every frame has, is
        infinite.

    Example:
        >>> gains(np.array([[1.0, 0.6, 0.5, 0.1]]), np.ones(4)).round(2).tolist()
        [[inf, 0.4, 0.25, 0.25]]
    """
    count = errors.shape[-1]
    worth = np.full(errors.shape, np.inf)
    spent = np.cumsum(prices)
    for k in range(1, count):
        lowered = errors[..., k - 1 : k] - errors[..., k:]
        worth[..., k] = (lowered / (spent[k:] - spent[k - 1])).max(axis=-1)
    return np.minimum.accumulate(worth, axis=-1)


def threshold(worth: Floats, prices: Floats, budget: float) -> float:
    """The threshold at which codebooks of frames ``[n, K]`` cost about ``budget`` bits in all.

    Example:
        >>> worth = gains(np.array([[1.0, 0.6, 0.5], [1.0, 0.2, 0.1]]), np.ones(3))
        >>> (worth > threshold(worth, np.ones(3), budget=4.0)).sum(axis=1).tolist()
        [2, 2]
    """
    order = np.argsort(-worth, axis=None)
    bits = np.cumsum(np.broadcast_to(prices, worth.shape).reshape(-1)[order])
    affordable = max(len(worth), int(np.searchsorted(bits, budget, side="right")))
    if affordable == len(bits):
        return -np.inf
    # The best that is not affordable any more is not above the threshold.
    return float(worth.reshape(-1)[order[affordable]])
