"""aecodec: a neural audio codec. Sound to a few kilobits per second and back, in streams or files.

The names below are the public interface. Those that need torch are imported when first used, so
that ``import codec`` and ``aecodec info`` answer at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from codec.config import CodecConfig
from codec.errors import AudioError, CodecError, ConfigError, FormatError, ModelError
from codec.format.container import Gap, Header, Packet, PacketReader, PacketWriter

if TYPE_CHECKING:
    from codec.files import decode_file, encode_file
    from codec.network.model import Codec
    from codec.network.weights import load_codec, save_codec
    from codec.stream import StreamDecoder, StreamEncoder

__version__ = "0.1.0"

__all__ = [
    "AudioError",
    "Codec",
    "CodecConfig",
    "CodecError",
    "ConfigError",
    "FormatError",
    "Gap",
    "Header",
    "ModelError",
    "Packet",
    "PacketReader",
    "PacketWriter",
    "StreamDecoder",
    "StreamEncoder",
    "decode_file",
    "encode_file",
    "load_codec",
    "save_codec",
]

_LAZY = {
    "Codec": "codec.network.model",
    "StreamDecoder": "codec.stream",
    "StreamEncoder": "codec.stream",
    "decode_file": "codec.files",
    "encode_file": "codec.files",
    "load_codec": "codec.network.weights",
    "save_codec": "codec.network.weights",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'codec' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
