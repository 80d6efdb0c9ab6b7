"""Orders in which language models read and write the codes of a recording, and their inverses.

The names are those of MusicGen (arXiv:2306.05284, section 2.2):

.. code-block:: text

    codes [K, T]     parallel       delay                  flat
    a1 a2 a3         a1 a2 a3       a1 a2 a3 .  .          a1 b1 c1 a2 b2 c2 a3 b3 c3
    b1 b2 b3         b1 b2 b3       .  b1 b2 b3 .
    c1 c2 c3         c1 c2 c3       .  .  c1 c2 c3

With ``parallel`` a model predicts all codebooks of a frame at once, with ``delay`` as many but each
knowing the earlier codebooks of its frame, with ``flat`` one code after the other. All functions
raise a `FormatError` for arrays of another number of axes, or of other numbers than integers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codec.arrays import Integers
from codec.errors import FormatError


def to_parallel(codes: npt.ArrayLike) -> Integers:
    """A step per frame: codes ``[K, T]`` -> tokens ``[T, K]``.

    Example:
        >>> to_parallel([[1, 2, 3], [4, 5, 6]]).tolist()
        [[1, 4], [2, 5], [3, 6]]
    """
    return _array(codes, 2, "codes").T


def from_parallel(tokens: npt.ArrayLike) -> Integers:
    """Inverse of `to_parallel`: tokens ``[T, K]`` -> codes ``[K, T]``.

    Example:
        >>> from_parallel([[1, 4], [2, 5], [3, 6]]).tolist()
        [[1, 2, 3], [4, 5, 6]]
    """
    return _array(tokens, 2, "tokens").T


def to_delay(codes: npt.ArrayLike, pad: int) -> Integers:
    """Codebook ``k`` is ``k`` steps late: codes ``[K, T]`` -> tokens ``[T + K - 1, K]``.

    Where there is no code, the token is ``pad``, usually the size of a codebook.

    Example:
        >>> to_delay([[1, 2, 3], [4, 5, 6]], pad=9).tolist()
        [[1, 9], [2, 4], [3, 5], [9, 6]]
    """
    rows = _array(codes, 2, "codes")
    num_codebooks, num_frames = rows.shape
    tokens = np.full((num_frames + num_codebooks - 1, num_codebooks), pad, np.int64)
    if num_frames:
        for number, row in enumerate(rows):
            tokens[number : number + num_frames, number] = row
    return tokens


def from_delay(tokens: npt.ArrayLike) -> Integers:
    """Inverse of `to_delay`: tokens ``[T + K - 1, K]`` -> codes ``[K, T]``.

    What a model wrote may end anywhere: only frames with all their codebooks are returned.

    Example:
        >>> from_delay([[1, 9], [2, 4], [3, 5]]).tolist()
        [[1, 2], [4, 5]]
    """
    steps = _array(tokens, 2, "tokens")
    num_codebooks = steps.shape[1]
    num_frames = max(0, len(steps) - num_codebooks + 1)
    rows = [steps[number : number + num_frames, number] for number in range(num_codebooks)]
    return np.array(rows, np.int64).reshape(num_codebooks, num_frames)


def to_flat(codes: npt.ArrayLike, codebook_size: int) -> Integers:
    """One code after the other: codes ``[K, T]`` -> tokens ``[T * K]``.

    Every codebook has its own tokens: code ``c`` of codebook ``k`` is ``k * codebook_size + c``.
    So the vocabulary has ``K`` times as many tokens as a codebook has entries.

    Raises:
        FormatError: a code is not in its codebook.

    Example:
        >>> to_flat([[1, 2, 3], [4, 5, 6]], codebook_size=10).tolist()
        [1, 14, 2, 15, 3, 16]
    """
    rows = _array(codes, 2, "codes")
    _check_range(rows, codebook_size)
    return (rows + codebook_size * np.arange(len(rows))[:, None]).T.reshape(-1)


def from_flat(tokens: npt.ArrayLike, num_codebooks: int, codebook_size: int) -> Integers:
    """Inverse of `to_flat`: tokens ``[T * K]`` -> codes ``[K, T]``.

    What a model wrote may end anywhere: an incomplete frame at the end is left out.

    Raises:
        FormatError: a token is not of the codebook whose turn it is.

    Example:
        >>> from_flat([1, 14, 2, 15, 3], num_codebooks=2, codebook_size=10).tolist()
        [[1, 2], [4, 5]]
    """
    flat = _array(tokens, 1, "tokens")
    whole = len(flat) // num_codebooks * num_codebooks
    rows = flat[:whole].reshape(-1, num_codebooks).T
    rows = rows - codebook_size * np.arange(num_codebooks)[:, None]
    _check_range(rows, codebook_size)
    return rows


def _array(values: npt.ArrayLike, axes: int, name: str) -> Integers:
    array = np.asarray(values)
    if array.ndim != axes or (array.size and array.dtype.kind not in "ui"):
        raise FormatError(
            f"{name} are {array.dtype} of shape {list(array.shape)}: give integers with "
            f"{axes} ax{'is' if axes == 1 else 'es'}"
        )
    return array.astype(np.int64)


def _check_range(codes: Integers, codebook_size: int) -> None:
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < codebook_size:
        raise FormatError(
            f"codes {codes.min()}..{codes.max()} do not lie in 0..{codebook_size - 1}: give the "
            "size of a codebook, and tokens that begin at a frame"
        )
