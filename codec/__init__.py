"""aecodec: a neural audio codec for speech and general audio at a few kilobits per second.

The names below are the public interface. Each is imported when it is first used, so that
``import codec`` is quick; only `Codec`, `load_codec` and `save_codec` import PyTorch, which
``pip install "aecodec[torch]"`` brings. Without it they are there as well, and say so when called.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as in `typing`, which takes as long to import as all before Ctrl-C is heard
if TYPE_CHECKING:
    from typing import Any

    from codec.calls.jitter import CallStatistics, JitterBuffer
    from codec.config import CodecConfig
    from codec.engines.base import Engine, EngineInfo
    from codec.entropy.redundancy import Redundancy
    from codec.errors import (
        AudioError,
        CodecError,
        ConfigError,
        FormatError,
        MissingPackageError,
        ModelError,
        StreamFinishedError,
    )
    from codec.files.decode import decode, decode_file
    from codec.files.edit import concat_files, cut_file, peel_file
    from codec.files.encode import encode, encode_file
    from codec.format.container import Gap, Header, Packet, PacketReader, PacketWriter
    from codec.network.model import Codec
    from codec.network.weights import load_codec, save_codec
    from codec.rate.modes import Average, Constant, FileSize, Quality
    from codec.registry import codec_for, load_engine
    from codec.stream import StreamDecoder, StreamEncoder

__version__ = "0.2.0.dev0"

__all__ = [
    "AudioError",
    "Average",
    "CallStatistics",
    "Codec",
    "CodecConfig",
    "CodecError",
    "ConfigError",
    "Constant",
    "Engine",
    "EngineInfo",
    "FileSize",
    "FormatError",
    "Gap",
    "Header",
    "JitterBuffer",
    "MissingPackageError",
    "ModelError",
    "Packet",
    "PacketReader",
    "PacketWriter",
    "Quality",
    "Redundancy",
    "StreamDecoder",
    "StreamEncoder",
    "StreamFinishedError",
    "codec_for",
    "concat_files",
    "cut_file",
    "decode",
    "decode_file",
    "encode",
    "encode_file",
    "load_codec",
    "load_engine",
    "peel_file",
    "save_codec",
]

_MODULES = {
    "AudioError": "codec.errors",
    "Average": "codec.rate.modes",
    "Constant": "codec.rate.modes",
    "FileSize": "codec.rate.modes",
    "Quality": "codec.rate.modes",
    "encode": "codec.files.encode",
    "decode": "codec.files.decode",
    "CallStatistics": "codec.calls.jitter",
    "Codec": "codec.network.model",
    "CodecConfig": "codec.config",
    "CodecError": "codec.errors",
    "ConfigError": "codec.errors",
    "Engine": "codec.engines.base",
    "EngineInfo": "codec.engines.base",
    "FormatError": "codec.errors",
    "Gap": "codec.format.container",
    "Header": "codec.format.container",
    "JitterBuffer": "codec.calls.jitter",
    "MissingPackageError": "codec.errors",
    "ModelError": "codec.errors",
    "Packet": "codec.format.container",
    "PacketReader": "codec.format.container",
    "PacketWriter": "codec.format.container",
    "Redundancy": "codec.entropy.redundancy",
    "StreamDecoder": "codec.stream",
    "StreamEncoder": "codec.stream",
    "StreamFinishedError": "codec.errors",
    "codec_for": "codec.registry",
    "concat_files": "codec.files.edit",
    "cut_file": "codec.files.edit",
    "decode_file": "codec.files.decode",
    "encode_file": "codec.files.encode",
    "load_codec": "codec.network.weights",
    "load_engine": "codec.registry",
    "peel_file": "codec.files.edit",
    "save_codec": "codec.network.weights",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'codec' has no attribute {name!r}")
    from codec.errors import MissingPackageError, optional_packages

    try:
        with optional_packages(f"codec.{name}", "torch"):
            return getattr(importlib.import_module(_MODULES[name]), name)
    except MissingPackageError as error:
        return _missing(name, error)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _missing(name: str, error: Exception) -> type:
    """What stands for a class or function that cannot be imported: it raises when it is called."""

    def __new__(cls: type, *_: Any, **__: Any) -> Any:
        raise error

    return type(name, (), {"__new__": __new__, "__doc__": str(error)})
