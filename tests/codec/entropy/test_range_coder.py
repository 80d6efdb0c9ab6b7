"""The range coder: what goes in comes out, in as few bytes as the frequencies allow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.codec.entropy.range_coder import TOTAL, RangeDecoder, RangeEncoder

Symbol = tuple[int, int]
"""Start and frequency."""


def encode(symbols: list[Symbol]) -> bytes:
    encoder = RangeEncoder()
    for symbol in symbols:
        encoder.encode(*symbol)
    return encoder.finish()


def decode(data: bytes, sent: list[Symbol]) -> list[Symbol]:
    """What tables, each of which has the symbol that was sent and what lies on both sides, give."""
    decoder, received = RangeDecoder(data), []
    for start, frequency in sent:
        ends = sorted({start, start + frequency, TOTAL} - {0})
        symbol = decoder.decode(ends)
        begin = ends[symbol - 1] if symbol else 0
        received.append((begin, ends[symbol] - begin))
    return received


def symbols() -> st.SearchStrategy[Symbol]:
    frequency = st.one_of(st.integers(1, TOTAL), st.integers(1, 3), st.integers(TOTAL - 3, TOTAL))
    return frequency.flatmap(
        lambda width: st.tuples(
            st.one_of(st.integers(0, TOTAL - width), st.just(0), st.just(TOTAL - width)),
            st.just(width),
        )
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(symbols(), max_size=60))
def test_symbols_come_back_from_fewest_bytes(sent: list[Symbol]) -> None:
    data = encode(sent)
    bits = sum(math.log2(TOTAL / frequency) for _, frequency in sent)
    assert 8 * len(data) < bits + 8 + 0.01 * len(sent)
    assert decode(data, sent) == sent


def test_nothing_costs_nothing() -> None:
    assert encode([]) == b""
    assert encode([(0, TOTAL)] * 1000) == b""


@pytest.mark.parametrize("start", [0, 1, TOTAL // 2, TOTAL - 1])
def test_a_carry_passes_through_many_bytes(start: int) -> None:
    """Symbols at the upper end fill bytes with ones, until one of them carries."""
    sent = [(TOTAL - 1, 1)] * 50 + [(start, 1)] * 3
    assert decode(encode(sent), sent) == sent


def test_any_bytes_decode_to_something() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 3, 50):
        decoder = RangeDecoder(rng.bytes(size))
        for _ in range(100):
            assert 0 <= decoder.decode([1, 9, 30_000, TOTAL]) < 4
