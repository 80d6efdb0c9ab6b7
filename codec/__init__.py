"""aecodec: a neural audio codec for speech and general audio at a few kilobits per second.

The names below are the public interface. Those with more to import are imported when first used,
so that ``import codec`` is quick; only `Codec`, `load_codec` and `save_codec` import PyTorch, which
``pip install "aecodec[torch]"`` brings.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from codec.config import CodecConfig
from codec.errors import (
    AudioError,
    CodecError,
    ConfigError,
    FormatError,
    MissingPackageError,
    ModelError,
    StreamFinishedError,
    optional_packages,
)
from codec.format.container import Gap, Header, Packet, PacketReader, PacketWriter

if TYPE_CHECKING:
    from codec.calls.jitter import CallStatistics, JitterBuffer
    from codec.edit import concat_files, cut_file, peel_file
    from codec.engines.base import Engine, EngineInfo
    from codec.entropy.redundancy import Redundancy
    from codec.files import decode_file, encode_file
    from codec.network.model import Codec
    from codec.network.weights import load_codec, save_codec
    from codec.registry import codec_for, load_engine
    from codec.stream import StreamDecoder, StreamEncoder

__version__ = "0.2.0.dev0"

__all__ = [
    "AudioError",
    "CallStatistics",
    "Codec",
    "CodecConfig",
    "CodecError",
    "ConfigError",
    "Engine",
    "EngineInfo",
    "FormatError",
    "Gap",
    "Header",
    "JitterBuffer",
    "MissingPackageError",
    "ModelError",
    "Packet",
    "PacketReader",
    "PacketWriter",
    "Redundancy",
    "StreamDecoder",
    "StreamEncoder",
    "StreamFinishedError",
    "codec_for",
    "concat_files",
    "cut_file",
    "decode_file",
    "encode_file",
    "load_codec",
    "load_engine",
    "peel_file",
    "save_codec",
]

_LAZY = {
    "CallStatistics": "codec.calls.jitter",
    "Codec": "codec.network.model",
    "Engine": "codec.engines.base",
    "EngineInfo": "codec.engines.base",
    "JitterBuffer": "codec.calls.jitter",
    "Redundancy": "codec.entropy.redundancy",
    "StreamDecoder": "codec.stream",
    "StreamEncoder": "codec.stream",
    "codec_for": "codec.registry",
    "concat_files": "codec.edit",
    "cut_file": "codec.edit",
    "decode_file": "codec.files",
    "encode_file": "codec.files",
    "load_codec": "codec.network.weights",
    "load_engine": "codec.registry",
    "peel_file": "codec.edit",
    "save_codec": "codec.network.weights",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'codec' has no attribute {name!r}")
    with optional_packages(f"codec.{name}", "torch"):
        return getattr(importlib.import_module(_LAZY[name]), name)
