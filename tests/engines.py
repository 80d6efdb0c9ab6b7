"""Engines of models that tests made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from codec.engines.base import Engine
from codec.engines.core import CoreEngine
from codec.engines.torch import TorchEngine
from codec.errors import ModelError
from codec.network.model import Codec
from codec.network.weights import save_codec

FOLDERS = tempfile.TemporaryDirectory()
"""Of saved models, until the tests end."""


def core_engine(codec: Codec) -> CoreEngine:
    """The engine of a model that was saved; skips the test for models that the core has not."""
    try:
        return CoreEngine(saved_folder(codec))
    except ModelError as error:
        pytest.skip(str(error))


@cache
def saved_folder(codec: Codec) -> Path:
    """A folder of the model, written once."""
    folder = Path(tempfile.mkdtemp(dir=FOLDERS.name))
    save_codec(codec, folder, name="test")
    return folder


ENGINES: dict[str, Callable[[Codec], Engine]] = {
    "torch": TorchEngine,
    "core": core_engine,
}
"""Every engine that the laws hold for, by what makes one of a model."""


def make_engine(name: str, codec: Codec) -> Engine:
    """The engine with that name for a model."""
    return ENGINES[name](codec)
