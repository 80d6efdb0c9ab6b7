"""Engines of models that tests made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from codec.engines.base import Engine
from codec.engines.core import CoreEngine
from codec.engines.onnx import OnnxEngine
from codec.engines.torch import TorchEngine
from codec.errors import ModelError
from codec.network.graphs import write_graphs
from codec.network.model import Codec
from codec.network.weights import save_codec

FOLDERS = tempfile.TemporaryDirectory()
"""Of the models with graphs, until the tests end."""


def onnx_engine(codec: Codec) -> OnnxEngine:
    """The engine of a model that was saved; skips the test for models that cannot be exported."""
    if codec.config.recurrent != "none":
        pytest.skip("recurrent layers cannot be exported")
    return OnnxEngine(folder_with_graphs(codec))


@cache
def folder_with_graphs(codec: Codec) -> Path:
    """A folder of the model with its graphs, written once, since it takes seconds."""
    folder = Path(tempfile.mkdtemp(dir=FOLDERS.name))
    save_codec(codec, folder, name="test")
    write_graphs(folder)
    return folder


def core_engine(codec: Codec) -> CoreEngine:
    """The engine of a model that was saved; skips the test for models that the core has not."""
    try:
        return CoreEngine(saved_folder(codec))
    except ModelError as error:
        pytest.skip(str(error))


@cache
def saved_folder(codec: Codec) -> Path:
    """A folder of the model without graphs, written once."""
    folder = Path(tempfile.mkdtemp(dir=FOLDERS.name))
    save_codec(codec, folder, name="test")
    return folder


ENGINES: dict[str, Callable[[Codec], Engine]] = {
    "torch": TorchEngine,
    "onnx": onnx_engine,
    "core": core_engine,
}
"""Every engine that the laws hold for, by what makes one of a model."""
FLOAT_ENGINES = ("torch", "onnx")
"""Those that compute in float32; `tests.codec.engines.test_core` tells how near 8 bits are."""


def make_engine(name: str, codec: Codec) -> Engine:
    """The engine with that name for a model."""
    return ENGINES[name](codec)
