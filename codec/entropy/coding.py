"""Codes of packets to bytes and back, with a context model and a range coder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from codec.bitrate import ceil_div
from codec.entropy.context import NO_CODE, ContextModel, ContextState, Integers
from codec.entropy.range_coder import TOTAL, RangeDecoder, RangeEncoder

STAYS = TOTAL - TOTAL // 64
"""Frequency with which a frame has codes if, and only if, the frame before it in its row has."""


def encode_packets(
    model: ContextModel,
    codes: Integers,
    state: ContextState | None = None,
    *,
    segments: int = 1,
    variable: bool = False,
    pauses: bool = False,
) -> tuple[list[bytes], ContextState]:
    """Encode packets of equal length, each with a range coder of its own.

    Args:
        model: the context model.
        codes: ``[N, C, K, T]``: packets, channels, codebooks, frames; `NO_CODE` for absent ones.
        state: what the model remembers of the packets before, one row for each segment of each
            channel; nothing if None.
        segments: number of parts of a packet, each with ``ceil(T / segments)`` frames until they
            end. The context is reset in each, and they share the range coder as channels do, so
            that they can be decoded side by side.
        variable: whether frames may have different numbers of codes.
        pauses: whether frames may have none at all.

    Returns:
        The bytes of each packet, and the state after them.
    """
    packets, channels, num_codebooks, num_frames = codes.shape
    steps = ceil_div(num_frames, segments)
    if absent := segments * steps - num_frames:
        padding = ((0, 0), (0, 0), (0, 0), (0, absent))
        codes = np.pad(codes, padding, constant_values=NO_CODE)
    parts = codes.reshape(packets, channels, num_codebooks, segments, steps)
    rows = parts.transpose(0, 3, 1, 2, 4).reshape(
        packets * segments * channels, num_codebooks, steps
    )
    state = state or model.init_state(len(rows))
    starts, frequencies, state = model.code_intervals(rows, state, variable=variable)
    if pauses:
        own = _presence(rows[:, 0] >= 0, segments, channels, num_frames)
        starts, frequencies = (
            np.concatenate(each, axis=2) for each in zip(own, (starts, frequencies), strict=True)
        )
    return write_intervals(starts, frequencies, packets), state


def write_intervals(starts: Integers, frequencies: Integers, num_packets: int) -> list[bytes]:
    """The bytes of each packet, from `ContextModel.code_intervals` of all their rows."""
    rows, steps, digits = starts.shape
    # As they are decoded: each digit of all rows before the next one.
    ordered = [
        each.reshape(num_packets, rows // num_packets, steps * digits)
        .transpose(0, 2, 1)
        .reshape(num_packets, each.size // num_packets)
        for each in (starts, frequencies)
    ]
    payloads = []
    for symbols in zip(*(each.tolist() for each in ordered), strict=True):
        encoder = RangeEncoder()
        for start, frequency in zip(*symbols, strict=True):
            if frequency < TOTAL:
                encoder.encode(start, frequency)
        payloads.append(encoder.finish())
    return payloads


def decode_packets(
    model: ContextModel,
    payloads: Sequence[bytes],
    num_frames: Sequence[int],
    channels: int,
    num_codebooks: int | Sequence[int],
    state: ContextState | None = None,
    *,
    segments: int = 1,
    variable: bool = False,
    pauses: bool = False,
) -> tuple[list[Integers], ContextState]:
    """Decode packets side by side, frame after frame.

    Args:
        model: the context model that encoded them.
        payloads: the bytes of each packet.
        num_frames: number of frames of each packet.
        channels: number of channels.
        num_codebooks: number of codebooks, or one for each frame of packets without segments.
        state: as in `encode_packets`.
        segments: as in `encode_packets`.
        variable: as in `encode_packets`.
        pauses: as in `encode_packets`.

    Returns:
        Codes ``[C, K, T]`` of each packet, `NO_CODE` where one is absent, and the state after the
        longest ones.
    """
    rows = segments * channels
    lengths = _row_lengths(num_frames, segments).repeat(channels, axis=1).reshape(-1)
    state = state or model.init_state(len(lengths))
    longest = int(lengths.max(initial=0))
    counts = [num_codebooks] * longest if isinstance(num_codebooks, int) else num_codebooks
    most = num_codebooks if isinstance(num_codebooks, int) else max(num_codebooks)
    codes = np.full((len(lengths), most, longest), NO_CODE)
    # The rows of a packet share its decoder.
    coders = [each for payload in payloads for each in [RangeDecoder(payload)] * rows]
    running, present = np.arange(len(lengths)), np.ones(len(lengths), np.bool_)

    def choose(rows: list[int], cumulative: Integers) -> list[int]:
        return _symbols([coders[row] for row in rows], cumulative)

    for frame in range(longest):
        if not (there := lengths[running] > frame).all():
            running, state, present = running[there], state.of_rows(there), present[there]
            coders = [coder for coder, stays in zip(coders, there, strict=True) if stays]
        if pauses:
            ends = np.where(present[:, None], (TOTAL - STAYS, TOTAL), (STAYS, TOTAL))
            present = np.array(choose(list(range(len(running))), ends)) > 0
        codes[running, : counts[frame], frame], state = model.decode_frame(
            counts[frame], state, choose, variable=variable, present=present
        )
    found = []
    for index, count in enumerate(num_frames):
        steps = ceil_div(count, segments)
        own = codes[index * rows : (index + 1) * rows, :, :steps]
        parts = own.reshape(segments, channels, most, steps).transpose(1, 2, 0, 3)
        found.append(parts.reshape(channels, most, segments * steps)[:, :, :count])
    return found, state


def _symbols(coders: Sequence[RangeDecoder], cumulative: Integers) -> list[int]:
    """The next symbol of each decoder, from the cumulative frequencies ``[n, symbols]``."""
    if cumulative.shape[1] == 1:  # nothing to choose, and nothing was coded
        return [0] * len(coders)
    return [coder.decode(ends) for coder, ends in zip(coders, cumulative.tolist(), strict=True)]


def _row_lengths(num_frames: Sequence[int], segments: int) -> Integers:
    """Frames ``[N, segments]`` of the segments of each packet."""
    steps = np.array([ceil_div(count, segments) for count in num_frames], np.int64)[:, None]
    begins = np.arange(segments) * steps
    lengths: Integers = np.clip(np.array(num_frames)[:, None] - begins, 0, steps)
    return lengths


def _presence(
    present: npt.NDArray[np.bool_], segments: int, channels: int, num_frames: int
) -> tuple[Integers, Integers]:
    """Starts and frequencies ``[N, T, 1]`` of the digit that says whether a frame has codes.

    Args:
        present: ``[N, T]``, whether it has, for each row and its frames.
        segments: segments of a packet.
        channels: channels of a packet.
        num_frames: frames of a packet; nothing is coded for those of a row beyond it.
    """
    steps = present.shape[1]
    before = np.concatenate((np.ones_like(present[:, :1]), present[:, :-1]), axis=1)[:, :steps]
    frequencies = np.where(present == before, STAYS, TOTAL - STAYS)
    starts = np.where(present, TOTAL - frequencies, 0)
    segment = np.arange(len(present)) // channels % segments
    beyond = segment[:, None] * steps + np.arange(steps) >= num_frames
    frequencies[beyond], starts[beyond] = TOTAL, 0
    return starts[..., None], frequencies[..., None]
