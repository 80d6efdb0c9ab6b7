"""The order of codes in a payload: written down once, and read back whatever the shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from codec.errors import FormatError
from codec.format.container import Header
from codec.format.payload import pack_codes, unpack_codes


def header(channels: int, num_codebooks: int, bits_per_code: int) -> Header:
    return Header(
        channels=channels,
        num_codebooks=num_codebooks,
        bits_per_code=bits_per_code,
        frames_per_packet=9,
        sample_rate=24_000,
        original_sample_rate=24_000,
        hop_length=480,
        fingerprint=bytes(16),
    )


@given(
    st.integers(1, 5), st.integers(1, 7), st.integers(1, 16), st.integers(0, 9), st.integers(0, 99)
)
def test_codes_of_any_shape_and_width_come_back(
    channels: int, num_codebooks: int, bits: int, num_frames: int, seed: int
) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (channels, num_codebooks, num_frames))
    stream = header(channels, num_codebooks, bits)
    payload = pack_codes(codes, stream)
    assert len(payload) == stream.payload_size(num_frames)
    again = unpack_codes(payload, num_frames, stream)
    assert again.shape == codes.shape and np.array_equal(again, codes)


def test_codes_lie_frame_by_frame_then_channel_by_channel_then_codebook_by_codebook() -> None:
    codes = np.arange(12).reshape(2, 3, 2)  # two channels, three codebooks, two frames
    assert pack_codes(codes, header(2, 3, 4)).hex() == "02468a13579b"


def test_codes_of_another_shape_or_width_are_not_packed() -> None:
    stream = header(2, 3, 4)
    for shape in ((1, 3, 2), (2, 2, 2), (2, 3)):
        with pytest.raises(ValueError, match="the header says"):
            pack_codes(np.zeros(shape, int), stream)
    with pytest.raises(ValueError, match="do not fit 4 bits"):
        pack_codes(np.full((2, 3, 1), 16), stream)


@pytest.mark.parametrize("num_bytes", [0, 2, 4, 100])
def test_a_payload_of_the_wrong_size_is_refused(num_bytes: int) -> None:
    with pytest.raises(FormatError, match="does not fit the stream's header"):
        unpack_codes(bytes(num_bytes), 1, header(2, 3, 4))
