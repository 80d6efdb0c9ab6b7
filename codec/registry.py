"""Models by name, by folder, and by the fingerprint that a stream carries."""

from __future__ import annotations

import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from codec.arguments import check_type, check_whole, shown
from codec.engines.base import Engine
from codec.engines.names import ENGINES, EngineName
from codec.entropy.context import ContextModel
from codec.entropy.context_file import StoredContext
from codec.errors import FormatError, ModelError, optional_packages
from codec.format.container import Header
from codec.model_folder import (
    DEFAULT_MODEL,
    find_by_fingerprint,
    find_model,
    has_graphs,
    is_packaged,
    read_description,
)

if TYPE_CHECKING:
    from codec.network.model import Codec

Model: TypeAlias = "Engine | Codec | str | Path"
"""Whatever names a model: an engine, a PyTorch model, a packaged name or a model folder."""


MAX_THREADS = 1024

PRETRAINED = ("encodec", "dac", "mimi", "snac")
"""Families of models of other projects."""


def pretrained_source(model: str | Path) -> tuple[str, str] | None:
    """Family and source of a model of another project; None for models of aecodec.

    Example:
        >>> pretrained_source("mimi=kyutai/mimi"), pretrained_source("speech24k")
        (('mimi', 'kyutai/mimi'), None)
    """
    family, equals, source = str(model).partition("=")
    return (family, source) if equals and family in PRETRAINED else None


def load_engine(
    model: str | Path = DEFAULT_MODEL, engine: EngineName | None = None, *, threads: int = 1
) -> Engine:
    """Load a model for coding.

    Args:
        model: name of a packaged model, path of a model folder, ``hf://user/name`` for one on the
            Hugging Face hub, or a model of another project as ``"encodec=FOLDER"`` or
            ``"mimi=kyutai/mimi"`` (see `PRETRAINED`).
        engine: ``"onnx"`` or ``"torch"``; if None, onnxruntime for a model with graphs, which
            packaged models have, and PyTorch for others.
        threads: number of threads that onnxruntime computes a step with. PyTorch has a setting of
            its own, ``torch.set_num_threads``.

    Raises:
        ModelError: there is no such model, its files are damaged, or it has no graphs.
        MissingPackageError: PyTorch is needed and not installed.

    Example:
        >>> engine = load_engine()
        >>> engine.info.sample_rate, engine.info.hop_length, engine.info.num_codebooks
        (24000, 480, 20)
    """
    check_engine(engine)
    threads = check_whole("threads", threads, 1, MAX_THREADS)
    if pretrained := pretrained_source(model):
        with optional_packages("models of other projects", "transformers"):
            from codec.engines.pretrained.families import load_pretrained

            return load_pretrained(*pretrained)
    folder = find_model(model)
    if engine is None:
        engine = "onnx" if has_graphs(folder) else "torch"
    if engine == "onnx":
        if not has_graphs(folder):
            raise ModelError(f"{folder} has no graphs: aecodec export {folder} {folder}")
        from codec.engines.onnx import OnnxEngine

        return OnnxEngine(folder, threads)
    with optional_packages("PyTorch's engine", "torch"):
        from codec.engines.torch import TorchEngine
        from codec.network.weights import load_codec

    codec = load_codec(folder)
    context = StoredContext(folder, codec.fingerprint)
    return TorchEngine(codec, read_description(folder)["name"], context)


def as_engine(model: Model, engine: EngineName | None = None, *, threads: int = 1) -> Engine:
    """The engine that ``model`` is or names.

    Packaged models are loaded once and shared by all sessions and threads, like those of
    `codec_for`. The last four stay loaded until the process ends; whoever needs an engine that ends
    with its sessions gives one of `load_engine`. A model folder, which may change, is loaded anew.

    Args:
        model: an engine, a PyTorch model, a packaged name or a model folder.
        engine: which engine loads a model that is named, as in `load_engine`.
        threads: its number of threads, as in `load_engine`.

    Raises:
        ModelError: there is no such model.

    Example:
        >>> from codec import load_codec
        >>> as_engine(load_codec()).info.bits_per_code
        10
    """
    if isinstance(model, str | Path):
        if pretrained_source(model) or not is_packaged(model):
            return load_engine(model, engine, threads=threads)
        return _packaged_engine(find_model(model), engine, threads)
    if isinstance(model, Engine) and not isinstance(model, type):
        return model
    if (network := sys.modules.get("codec.network.model")) and isinstance(model, network.Codec):
        from codec.engines.torch import TorchEngine

        return TorchEngine(model)
    raise ModelError(
        f"{type(model).__name__} is not a model: give an engine, a Codec, the name of a packaged "
        "model or a model folder"
    )


def codec_for(header: Header, engine: EngineName | None = None, *, threads: int = 1) -> Engine:
    """The packaged model that a stream was made with; loaded once per process.

    Args:
        header: header of the stream.
        engine: which engine loads it, as in `load_engine`.
        threads: its number of threads, as in `load_engine`.

    Raises:
        ModelError: no packaged model has that fingerprint.

    Example:
        >>> from codec import StreamEncoder
        >>> encoder = StreamEncoder()
        >>> codec_for(encoder.header).info.fingerprint == encoder.header.fingerprint
        True
    """
    check_type("header", header, Header, FormatError)
    return engine_for(header.fingerprint, engine, threads)


def context_for(header: Header, model: Model | None = None) -> ContextModel | None:
    """The context model that a stream was coded with; None if it has none.

    Args:
        header: header of the stream.
        model: the model that it names; None finds it among the packaged models.

    Raises:
        ModelError: there is no such model, or it is another one.
        FormatError: the header contradicts the model.
    """
    if not header.context:
        return None
    engine = codec_for(header) if model is None else as_engine(model)
    check_model(engine, header)
    return engine.info.context


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
    if header.context and (info.context is None or info.context.identity != header.context):
        own = info.context.identity.hex() if info.context else "none"
        raise ModelError(
            f"the stream was coded with context model {header.context.hex()}, this model has "
            f"{own}: give the right folder with --model"
        )


def engine_for(fingerprint: bytes, engine: EngineName | None = None, threads: int = 1) -> Engine:
    """The packaged model with a fingerprint; loaded once per process.

    Args:
        fingerprint: from a stream.
        engine: which engine loads it, as in `load_engine`.
        threads: its number of threads, as in `load_engine`.

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
    return _packaged_engine(folder, engine, threads)


def check_engine(engine: object) -> None:
    """Raise a ModelError for what is no name of an engine."""
    if engine is not None and not (isinstance(engine, str) and engine in ENGINES):
        raise ModelError(f"no engine {shown(engine)}: give one of {list(ENGINES)}")


_packaged_lock = threading.Lock()


def _packaged_engine(folder: Path, engine: EngineName | None, threads: int) -> Engine:
    check_engine(engine)
    threads = check_whole("threads", threads, 1, MAX_THREADS)
    with _packaged_lock:  # or threads that begin together would load one each
        return _load_packaged(folder, engine, threads)


@lru_cache(maxsize=4)
def _load_packaged(folder: Path, engine: EngineName | None, threads: int) -> Engine:
    return load_engine(folder, engine, threads=threads)
