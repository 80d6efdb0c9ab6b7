"""Integers of given widths <-> bytes: most significant bit first, zero-padded to a byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pack(values: npt.NDArray[np.integer], widths: npt.ArrayLike) -> bytes:
    """Pack integers in the order of the flattened array.

    Their bits (1 to 16) have a shape that NumPy broadcasts to that of the values.

    Raises:
        ValueError: a value does not fit its bits.
    """
    values = np.asarray(values)
    if (values < 0).any() or (values >> np.asarray(widths)).any():
        raise ValueError(
            f"values {values.min()}..{values.max()} do not fit {np.unique(widths)} bits"
        )
    # Each value as two big-endian bytes, whose last bits are kept.
    two_bytes = values.reshape(-1).astype(">u2").view(np.uint8).reshape(-1, 2)
    kept = _kept(np.broadcast_to(widths, values.shape))
    return np.packbits(np.unpackbits(two_bytes, axis=1)[kept]).tobytes()


def unpack(data: bytes, widths: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The inverse of `pack`: integers in the shape of their ``widths``."""
    kept = _kept(widths)
    two_bytes = np.zeros(kept.shape, np.uint8)
    two_bytes[kept] = np.unpackbits(np.frombuffer(data, np.uint8), count=int(widths.sum()))
    return np.packbits(two_bytes, axis=1).view(">u2").reshape(widths.shape).astype(np.int64)


def packed_size(widths: npt.ArrayLike) -> int:
    """Bytes that `pack` makes of integers of these widths."""
    return -(-int(np.sum(widths)) // 8)


def _kept(widths: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Which of 16 bits of each value are written."""
    return np.arange(16) >= 16 - widths.reshape(-1, 1)
