"""libopus itself, for what FFmpeg's decoder cannot do: in-band forward error correction."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import av
import numpy as np

from codec.errors import CodecError

_RECOVER, _CONCEAL = 1, 0  # what is done with the packet after a lost one


@cache
def _library() -> ctypes.CDLL:
    """The system's libopus, or the one that PyAV contains."""
    inside = sorted((Path(av.__file__).parent.parent / "av.libs").glob("libopus*"))
    name = str(inside[0]) if inside else ctypes.util.find_library("opus")
    if name is None:
        raise CodecError("no libopus: install PyAV from its wheel, or the package libopus0")
    library = ctypes.CDLL(name)
    library.opus_decoder_create.restype = ctypes.c_void_p
    library.opus_decoder_destroy.argtypes = [ctypes.c_void_p]
    library.opus_decode_float.argtypes = [
        *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32),
        *(ctypes.POINTER(ctypes.c_float), ctypes.c_int, ctypes.c_int),
    ]
    return library


def decode_with_losses(
    packets: Sequence[bytes], lost: np.ndarray, sample_rate: int, *, fec: bool
) -> np.ndarray:
    """Decode mono packets of 20 ms, of which some are lost.

    Args:
        packets: packets of libopus.
        lost: ``[num_packets]`` booleans, or more.
        sample_rate: sample rate to decode at: 8, 12, 16, 24 or 48 kHz.
        fec: whether a lost packet is recovered from the one after it, if that was received and
            carries it. Otherwise it is concealed.

    Returns:
        ``[N]`` float32, with the delay of the encoder.

    Raises:
        CodecError: there is no libopus, or a packet is not one of Opus.
    """
    library, length = _library(), sample_rate // 50
    error = ctypes.c_int()
    decoder = library.opus_decoder_create(sample_rate, 1, ctypes.byref(error))
    if error.value:
        raise CodecError(f"libopus cannot decode at {sample_rate} Hz: use 8, 12, 16, 24 or 48 kHz")
    audio = np.zeros((len(packets), length), np.float32)

    def decode(packet: bytes | None, number: int, mode: int) -> None:
        target = audio[number].ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        size = len(packet) if packet else 0
        if library.opus_decode_float(decoder, packet, size, target, length, mode) != length:
            raise CodecError(f"packet {number} is not a packet of Opus of 20 ms")

    try:
        for number, packet in enumerate(packets):
            if not lost[number]:
                decode(packet, number, _CONCEAL)
            elif fec and number + 1 < len(packets) and not lost[number + 1]:
                decode(packets[number + 1], number, _RECOVER)
            else:
                decode(None, number, _CONCEAL)
    finally:
        library.opus_decoder_destroy(decoder)
    return audio.reshape(-1)
