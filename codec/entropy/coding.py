"""Codes of packets to bytes and back, with a context model and a range coder."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from codec.entropy.context import NO_CODE, ContextModel, ContextState, Integers
from codec.entropy.range_coder import TOTAL, RangeDecoder, RangeEncoder


def encode_packets(
    model: ContextModel,
    codes: Integers,
    state: ContextState | None = None,
    *,
    variable: bool = False,
) -> tuple[list[bytes], ContextState]:
    """Encode packets of equal length, each with a range coder of its own.

    Args:
        model: the context model.
        codes: ``[N, C, K, T]``: packets, channels, codebooks, frames; `NO_CODE` for absent ones.
        state: what the model remembers of the packets before, ``N * C`` rows; nothing if None.
        variable: whether frames may have different numbers of codes.

    Returns:
        The bytes of each packet, and the state after them.
    """
    packets, channels, num_codebooks, num_frames = codes.shape
    rows = codes.reshape(packets * channels, num_codebooks, num_frames)
    state = state or model.init_state(len(rows))
    starts, frequencies, state = model.code_intervals(rows, state, variable=variable)
    return write_intervals(starts, frequencies, packets), state


def write_intervals(starts: Integers, frequencies: Integers, num_packets: int) -> list[bytes]:
    """The bytes of each packet, from `ContextModel.code_intervals` of all their channels."""
    # As they are decoded: each digit of all channels before the next one.
    channels = len(starts) // num_packets
    ordered = [
        each.reshape(num_packets, channels, -1).transpose(0, 2, 1).reshape(num_packets, -1).tolist()
        for each in (starts, frequencies)
    ]
    payloads = []
    for symbols in zip(*ordered, strict=True):
        encoder = RangeEncoder()
        for start, frequency in zip(*symbols, strict=True):
            if frequency < TOTAL:
                encoder.encode(start, frequency)
        payloads.append(encoder.finish())
    return payloads


def decode_packets(
    model: ContextModel,
    payloads: Sequence[bytes],
    channels: int,
    num_codebooks: int | Sequence[int],
    num_frames: int,
    state: ContextState | None = None,
    *,
    variable: bool = False,
) -> tuple[Integers, ContextState]:
    """Decode packets of equal length side by side, frame after frame.

    Args:
        model: the context model that encoded them.
        payloads: the bytes of each packet.
        channels: number of channels.
        num_codebooks: number of codebooks, or one for each frame.
        num_frames: number of frames of each packet.
        state: as in `encode_packets`.
        variable: as in `encode_packets`.

    Returns:
        Codes ``[N, C, K, T]``, `NO_CODE` where one is absent, and the state after them.
    """
    counts = [num_codebooks] * num_frames if isinstance(num_codebooks, int) else num_codebooks
    most = num_codebooks if isinstance(num_codebooks, int) else max(num_codebooks)
    # The channels of a packet share its decoder.
    decoders = [each for payload in payloads for each in [RangeDecoder(payload)] * channels]
    state = state or model.init_state(len(decoders))
    codes = np.full((len(decoders), most, num_frames), NO_CODE)

    def choose(rows: Integers, cumulative: Integers) -> Integers:
        digits = []
        for row, ends in zip(rows.tolist(), cumulative.tolist(), strict=True):
            if len(ends) == 1:  # nothing to choose, and nothing was coded
                digits.append(0)
                continue
            decoder = decoders[row]
            digit = bisect_right(ends, decoder.target())
            start = ends[digit - 1] if digit else 0
            decoder.consume(start, ends[digit] - start)
            digits.append(digit)
        return np.array(digits)

    for frame, count in enumerate(counts):
        codes[:, :count, frame], state = model.decode_frame(count, state, choose, variable=variable)
    return codes.reshape(len(payloads), channels, most, num_frames), state
