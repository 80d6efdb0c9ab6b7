"""Plain codes to the bytes of a packet and back; `codec.entropy.payload` has entropy-coded ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codec.arrays import Codes
from codec.errors import FormatError
from codec.format import bitpack
from codec.format.container import Header


def pack_codes(codes: npt.NDArray[np.integer], header: Header) -> bytes:
    """Bytes of the codes of some frames.

    Frame by frame; within a frame group by group of channels; within a group code by code, in the
    order of `codec.codes`. Each code takes the bits of its codebook.

    Args:
        codes: ``[G, K, T]`` with the channels and codebooks of ``header``.
        header: of the stream.

    Raises:
        ValueError: the shape is not that of the header, or a code does not fit its bits.

    Example:
        >>> from codec.codes import Codebook
        >>> header = Header(channels=1, codebooks=(Codebook(16),) * 2, frames_per_packet=1,
        ...     sample_rate=24_000, original_sample_rate=24_000, hop_length=480,
        ...     fingerprint=bytes(16))
        >>> pack_codes(np.array([[[1, 3], [2, 4]]]), header).hex()  # frame 0: 1 2, frame 1: 3 4
        '1234'
        >>> unpack_codes(bytes.fromhex("1234"), 2, header).tolist()
        [[[1, 3], [2, 4]]]
    """
    shape = header.num_groups(header.channels), header.num_codes()
    if codes.ndim != 3 or codes.shape[:2] != shape:
        raise ValueError(
            f"codes have shape {list(codes.shape)}: the header says [{shape[0]}, {shape[1]}, T]"
        )
    return bitpack.pack(codes.transpose(2, 0, 1), header.bits)


def unpack_codes(payload: bytes, num_frames: int, header: Header) -> Codes:
    """Codes ``[G, K, T]`` of the ``num_frames`` frames in a payload.

    Raises:
        FormatError: the payload is too short or too long for that many frames.
    """
    if len(payload) != header.payload_size(num_frames):
        raise FormatError(
            f"a packet of {num_frames} frames in {len(payload)} bytes "
            "does not fit the stream's header"
        )
    shape = num_frames, header.num_groups(header.channels), header.num_codes()
    return bitpack.unpack(payload, np.broadcast_to(header.bits, shape)).transpose(1, 2, 0)
