"""libopus itself, for what FFmpeg cannot do: forced wideband, in-band forward error correction."""

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
_VOIP = 2048
_SET_BITRATE, _SET_BANDWIDTH, _WIDEBAND = 4002, 4008, 1103
_SET_COMPLEXITY, _HIGHEST_COMPLEXITY = 4010, 10  # FFmpeg's default
_LARGEST_PACKET = 1275


@cache
def _library() -> ctypes.CDLL:
    """The system's libopus, or the one that PyAV contains."""
    inside = sorted((Path(av.__file__).parent.parent / "av.libs").glob("libopus*"))
    name = str(inside[0]) if inside else ctypes.util.find_library("opus")
    if name is None:
        raise CodecError("no libopus: install PyAV from its wheel, or the package libopus0")
    library = ctypes.CDLL(name)
    library.opus_encoder_create.restype = ctypes.c_void_p
    library.opus_encoder_destroy.argtypes = [ctypes.c_void_p]
    library.opus_encode_float.argtypes = [
        *(ctypes.c_void_p, ctypes.POINTER(ctypes.c_float), ctypes.c_int),
        *(ctypes.c_char_p, ctypes.c_int32),
    ]
    library.opus_decoder_create.restype = ctypes.c_void_p
    library.opus_decoder_destroy.argtypes = [ctypes.c_void_p]
    library.opus_decode_float.argtypes = [
        *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32),
        *(ctypes.POINTER(ctypes.c_float), ctypes.c_int, ctypes.c_int),
    ]
    return library


def encode_wideband(audio: np.ndarray, sample_rate: int, bitrate: int) -> list[bytes]:
    """Encode mono speech in packets of 20 ms, all of them wideband.

    Left to itself, libopus chooses narrowband at low bitrates.

    Args:
        audio: ``[N]`` float32, padded with silence to whole packets.
        sample_rate: sample rate of the audio: 16, 24 or 48 kHz.
        bitrate: in bits per second, variable.

    Raises:
        CodecError: there is no libopus, or it does not encode so.
    """
    library, length = _library(), sample_rate // 50
    error = ctypes.c_int()
    encoder = ctypes.c_void_p(
        library.opus_encoder_create(sample_rate, 1, _VOIP, ctypes.byref(error))
    )
    if error.value:
        raise CodecError(f"libopus cannot encode at {sample_rate} Hz: use 16, 24 or 48 kHz")
    frames = np.zeros((-(-len(audio) // length), length), np.float32)
    frames.reshape(-1)[: len(audio)] = audio
    target = ctypes.create_string_buffer(_LARGEST_PACKET)
    packets = []
    try:
        for request, value in (
            (_SET_BITRATE, bitrate),
            (_SET_BANDWIDTH, _WIDEBAND),
            (_SET_COMPLEXITY, _HIGHEST_COMPLEXITY),
        ):
            if library.opus_encoder_ctl(encoder, ctypes.c_int(request), ctypes.c_int(value)):
                raise CodecError(f"libopus refuses a bitrate of {bitrate} or wideband")
        for frame in frames:
            samples = frame.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            size = library.opus_encode_float(encoder, samples, length, target, len(target))
            if size < 1:
                raise CodecError(f"libopus cannot encode at {bitrate} bit/s: error {size}")
            packets.append(target.raw[:size])
    finally:
        library.opus_encoder_destroy(encoder)
    return packets


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
