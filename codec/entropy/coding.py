"""Codes of packets to bytes and back, with a context model and a range coder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codec.arrays import Floats
from codec.core.library import Packets, call, core
from codec.entropy.context import Bytes, ContextModel, Integers


def encode_packets(
    model: ContextModel,
    codes: Integers,
    state: Bytes | None = None,
    *,
    segments: int = 1,
    variable: bool = False,
    pauses: bool = False,
    bits: Floats | None = None,
) -> tuple[list[bytes], Bytes]:
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
        bits: an array ``[N, T]`` to be filled with the bits of the codes of each frame.

    Returns:
        The bytes of each packet, and the state after them.

    Raises:
        ModelError: a code is beyond its codebook, or codes or state do not fit the model.
    """
    num_packets, channels, num_codebooks, num_frames = codes.shape
    shape = Packets(num_packets, channels, num_codebooks, num_frames, segments, variable, pauses)
    rows = segments * channels
    after = model.init_state(num_packets * rows) if state is None else state.copy()
    data = np.empty((num_packets, core().aec_packet_capacity(shape)), np.uint8)
    lengths = np.empty(num_packets, np.uint32)
    call(
        "aec_encode_packets",
        *(model.handle, shape, np.ascontiguousarray(codes, np.int32), after, data, lengths),
        *(np.empty(0) if bits is None else bits, model.scratch(rows)),
    )
    payloads = [data[index, :size].tobytes() for index, size in enumerate(lengths.tolist())]
    return payloads, after


def decode_packets(
    model: ContextModel,
    packets: Sequence[tuple[bytes, int]],
    channels: int,
    num_codebooks: int | Sequence[int],
    state: Bytes | None = None,
    *,
    segments: int = 1,
    variable: bool = False,
    pauses: bool = False,
) -> tuple[list[Integers], Bytes]:
    """Decode packets side by side, frame after frame. Any bytes decode to some codes.

    Args:
        model: the context model that encoded them.
        packets: the bytes and the number of frames of each packet.
        channels: number of channels.
        num_codebooks: number of codebooks, or one for each frame of packets without segments.
        state: as in `encode_packets`.
        segments: as in `encode_packets`.
        variable: as in `encode_packets`.
        pauses: as in `encode_packets`.

    Returns:
        Codes ``[C, K, T]`` of each packet, `NO_CODE` where one is absent, and the state after the
        last frame of each row.

    Raises:
        ModelError: the numbers of codebooks or the state do not fit the model.
    """
    payloads, num_frames = [data for data, _ in packets], [count for _, count in packets]
    rows, longest = segments * channels, max(num_frames, default=0)
    counts = [num_codebooks] * longest if isinstance(num_codebooks, int) else num_codebooks
    most = num_codebooks if isinstance(num_codebooks, int) else max(num_codebooks)
    shape = Packets(len(payloads), channels, most, longest, segments, variable, pauses)
    after = model.init_state(len(payloads) * rows) if state is None else state.copy()
    codes = np.empty((len(payloads), channels, most, longest), np.int32)
    call(
        "aec_decode_packets",
        *(model.handle, shape, np.frombuffer(b"".join(payloads), np.uint8)),
        *(np.array([len(each) for each in payloads], np.uint32), np.array(num_frames, np.uint32)),
        *(np.array(counts, np.uint32), after, codes, model.scratch(rows)),
    )
    found = [
        each[..., :count].astype(np.int64) for each, count in zip(codes, num_frames, strict=True)
    ]
    return found, after
