"""Fixed-width integers <-> bytes: most significant bit first, zero-padded to a byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pack(values: npt.NDArray[np.integer], width: int) -> bytes:
    """Pack integers of ``width`` bits (1 to 16), in the order of the flattened array."""
    flat = np.asarray(values).reshape(-1)
    if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < 1 << width:
        raise ValueError(f"values {flat.min()}..{flat.max()} do not fit {width} bits")
    # Each value as two big-endian bytes, whose last `width` bits are kept.
    two_bytes = flat.astype(">u2").view(np.uint8).reshape(-1, 2)
    return np.packbits(np.unpackbits(two_bytes, axis=1)[:, 16 - width :]).tobytes()


def unpack(data: bytes, width: int, count: int) -> npt.NDArray[np.int64]:
    """The first ``count`` integers of ``width`` bits in ``data``."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width)
    two_bytes = np.zeros((count, 16), np.uint8)
    two_bytes[:, 16 - width :] = bits.reshape(count, width)
    return np.packbits(two_bytes, axis=1).view(">u2").reshape(-1).astype(np.int64)


def packed_size(width: int, count: int) -> int:
    """Bytes that `pack` makes of ``count`` integers."""
    return -(-width * count // 8)
