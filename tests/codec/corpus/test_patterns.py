"""Patterns of tokens are inverted exactly, and refuse what is not theirs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from codec.corpus.patterns import (
    from_delay,
    from_flat,
    from_parallel,
    to_delay,
    to_flat,
    to_parallel,
)
from codec.errors import FormatError

SIZE = 32
PAIRS: dict[str, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]] = {
    "parallel": (to_parallel, from_parallel),
    "delay": (lambda codes: to_delay(codes, SIZE), from_delay),
    "flat": (
        lambda codes: to_flat(codes, SIZE),
        lambda tokens: from_flat(tokens, 3, SIZE),
    ),
}


def codes(num_codebooks: int = 3, num_frames: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, SIZE, (num_codebooks, num_frames))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("num_frames", [0, 1, 2, 7])
@pytest.mark.parametrize("kind", [np.uint16, np.int64])
def test_patterns_are_inverted_exactly(name: str, num_frames: int, kind: type) -> None:
    there, back = PAIRS[name]
    original: np.ndarray = codes(num_frames=num_frames).astype(kind)
    again = back(there(original))
    assert again.dtype == np.int64 and np.array_equal(again, original)


def test_a_delayed_code_never_comes_before_the_earlier_codebooks_of_its_frame() -> None:
    tokens = to_delay(codes(), SIZE)
    assert tokens.shape == (9, 3)
    assert (tokens == SIZE).sum() == 3 * 2  # K - 1 pads per codebook
    for frame in range(7):
        for codebook in range(3):
            assert tokens[frame + codebook, codebook] == codes()[codebook, frame]


def test_flat_tokens_tell_their_codebook() -> None:
    tokens = to_flat(codes(), SIZE)
    assert tokens.shape == (21,)
    assert np.array_equal(tokens // SIZE, np.tile([0, 1, 2], 7))


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_what_a_model_wrote_may_end_anywhere(cut: int) -> None:
    assert np.array_equal(from_flat(to_flat(codes(), SIZE)[:-cut], 3, SIZE), codes()[:, :6])
    delayed = from_delay(to_delay(codes(), SIZE)[:-cut])
    assert np.array_equal(delayed, codes()[:, : 7 - cut])
    assert from_delay(to_delay(codes(), SIZE)[:2]).shape == (3, 0)


def test_what_is_not_theirs_is_refused() -> None:
    wrong: list[Callable[[], np.ndarray]] = [
        lambda: to_flat(codes() + 1 + SIZE, SIZE),
        lambda: from_flat(to_flat(codes(), SIZE)[1:], 3, SIZE),
        lambda: from_flat(codes(), 3, SIZE),
        lambda: to_delay(codes()[0], SIZE),
        lambda: to_parallel(codes() / 2),
    ]
    for use in wrong:
        with pytest.raises(FormatError, match="give "):
            use()
