from __future__ import annotations

import numpy as np
import pytest

from codec.format.bitpack import pack, packed_size, unpack


@pytest.mark.parametrize("width", range(1, 17))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 61])
def test_unpack_undoes_pack(width: int, count: int) -> None:
    values = np.random.default_rng(width).integers(0, 1 << width, count)
    data = pack(values, width)
    widths = np.full(count, width)
    assert len(data) == packed_size(widths) == -(-width * count // 8)
    assert unpack(data, widths).tolist() == values.tolist()


def test_values_of_different_widths_follow_one_another() -> None:
    widths = np.array([[12, 1, 5], [12, 1, 5]])
    values = np.array([[0xABC, 1, 0], [0x123, 0, 31]])
    data = pack(values, widths[0])
    assert data == int("1010101111001000000001001000110111110000", 2).to_bytes(5)
    assert unpack(data, widths).tolist() == values.tolist()
    with pytest.raises(ValueError, match="do not fit"):
        pack(np.array([[0, 2, 0]]), widths[0])


def test_bits_lie_as_the_format_says() -> None:
    # 5 = 00101, 17 = 10001, 1 = 00001, most significant bit first, zero-padded.
    assert pack(np.array([5, 17, 1]), 5) == bytes([0b00101100, 0b01000010])


@pytest.mark.parametrize("value", [-1, 32])
def test_a_value_too_wide_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        pack(np.array([value]), 5)
