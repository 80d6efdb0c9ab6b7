"""Models by name, by folder, and by the fingerprint that a stream carries."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from codec.engines.base import Engine
from codec.errors import FormatError, ModelError
from codec.format.container import Header
from codec.model_folder import DEFAULT_MODEL, find_by_fingerprint, find_model, read_description

if TYPE_CHECKING:
    from codec.network.model import Codec

Model: TypeAlias = "Engine | Codec | str | Path"
"""Whatever names a model: an engine, a PyTorch model, a packaged name or a model folder."""


PRETRAINED = ("encodec", "dac", "mimi")
"""Families of models that the package ``transformers`` loads."""


def pretrained_source(model: str | Path) -> tuple[str, str] | None:
    """Family and source of a model of another project; None for models of aecodec.

    Example:
        >>> pretrained_source("mimi=kyutai/mimi"), pretrained_source("speech24k")
        (('mimi', 'kyutai/mimi'), None)
    """
    family, equals, source = str(model).partition("=")
    return (family, source) if equals and family in PRETRAINED else None


def load_engine(model: str | Path = DEFAULT_MODEL) -> Engine:
    """Load a model for coding.

    Args:
        model: name of a packaged model, path of a model folder, ``hf://user/name`` for one on the
            Hugging Face hub, or a model of another project as ``"encodec=FOLDER"`` or
            ``"mimi=kyutai/mimi"`` (see `PRETRAINED`).

    Raises:
        ModelError: there is no such model, or its files are damaged.

    Example:
        >>> engine = load_engine()
        >>> engine.info.sample_rate, engine.info.hop_length, engine.info.num_codebooks
        (24000, 480, 12)
    """
    if pretrained := pretrained_source(model):
        from codec.engines.pretrained import load_pretrained

        return load_pretrained(*pretrained)
    from codec.engines.torch import TorchEngine
    from codec.network.weights import load_codec

    name = read_description(find_model(model))["name"]
    return TorchEngine(load_codec(model), name)


def as_engine(model: Model) -> Engine:
    """The engine that ``model`` is or names.

    Raises:
        ModelError: there is no such model.

    Example:
        >>> from codec import load_codec
        >>> as_engine(load_codec()).info.bits_per_code
        10
    """
    if isinstance(model, Engine):
        return model
    if isinstance(model, str | Path):
        return load_engine(model)
    from codec.engines.torch import TorchEngine

    return TorchEngine(model)


def codec_for(header: Header) -> Engine:
    """The packaged model that a stream was made with; loaded once per process.

    Raises:
        ModelError: no packaged model has that fingerprint.

    Example:
        >>> from codec import StreamEncoder
        >>> encoder = StreamEncoder()
        >>> codec_for(encoder.header).info.fingerprint == encoder.header.fingerprint
        True
    """
    return engine_for(header.fingerprint)


def check_model(engine: Engine, header: Header) -> None:
    """Check that a stream was made with a model.

    Raises:
        ModelError: the stream names another model.
        FormatError: it names this model but has another shape.
    """
    info = engine.info
    if header.fingerprint != info.fingerprint:
        raise ModelError(
            f"the stream was made with model {header.fingerprint.hex()}, this one is "
            f"{info.fingerprint.hex()}: give the right folder with --model"
        )
    stream = (header.sample_rate, header.hop_length, header.bits_per_code)
    shape = (info.sample_rate, info.hop_length, info.bits_per_code)
    if stream != shape or header.num_codebooks > info.num_codebooks:
        raise FormatError(
            "the header contradicts the model that it names: the stream is damaged or forged"
        )


@lru_cache(maxsize=4)
def engine_for(fingerprint: bytes) -> Engine:
    """The packaged model with a fingerprint; loaded once per process.

    Raises:
        ModelError: no packaged model has that fingerprint.

    Example:
        >>> from codec import load_engine
        >>> engine_for(load_engine().info.fingerprint).info.name
        'speech24k'
    """
    folder = find_by_fingerprint(fingerprint)
    if folder is None:
        raise ModelError(
            f"the stream was made with model {fingerprint.hex()}, which is not packaged: "
            "give the right folder with --model"
        )
    return load_engine(folder)
