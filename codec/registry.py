"""Models by name, by folder, and by the fingerprint that a stream carries."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from codec.arguments import check_type, shown
from codec.codes import Codebook, CodecSpec
from codec.config import CodecConfig
from codec.core.network import unsupported
from codec.engines.base import Engine
from codec.engines.names import BACKENDS, Backend
from codec.entropy.context import ContextModel
from codec.entropy.context_file import StoredContext
from codec.errors import FormatError, ModelError, optional_packages
from codec.format.container import Header
from codec.model_folder import (
    DEFAULT_MODEL,
    find_by_fingerprint,
    find_model,
    is_packaged,
    read_description,
)

if TYPE_CHECKING:
    from codec.network.model import Codec


@dataclass(frozen=True)
class Model:
    """A loaded model: what computes its codes, and the context model that makes them smaller.

    Attributes:
        engine: computes codes from audio and audio from codes.
        context_source: the context model of its codes, or where it is stored; None if it has none.

    Example:
        >>> model = load_model()
        >>> model.spec.sample_rate, model.spec.hop_length, model.spec.num_codebooks
        (24000, 480, 20)
        >>> model.context is None
        False
    """

    engine: Engine
    context_source: ContextModel | StoredContext | None = field(default=None, compare=False)

    @property
    def spec(self) -> CodecSpec:
        """Geometry of the codes."""
        return self.engine.spec

    @property
    def context(self) -> ContextModel | None:
        """The context model of the codes; None if it was not fitted.

        Raises:
            ModelError: its file is damaged, or about the codes of another model.
        """
        source = self.context_source
        context = source.model if isinstance(source, StoredContext) else source
        if context is not None:
            count, size = context.shape.num_codebooks, context.shape.codebook_size
            fits = self.spec.codebooks == (Codebook(size),) * count
            if not fits or not self.spec.has_simple_codes:
                raise ModelError(
                    f"the context model is about {count} codebooks of {size} entries, the codes of "
                    "the model are others: fit it again with aecodec fit-context, or remove it"
                )
        return context


ModelLike: TypeAlias = "Model | Engine | Codec | str | Path"
"""Whatever names a model: a loaded one, an engine, a PyTorch model, a packaged name or a folder."""


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


def load_model(model: str | Path = DEFAULT_MODEL, *, backend: Backend | None = None) -> Model:
    """Load a model.

    Args:
        model: name of a packaged model, path of a model folder, ``hf://user/name`` for one on the
            Hugging Face hub, or a model of another project as ``"encodec=FOLDER"`` or
            ``"mimi=kyutai/mimi"`` (see `PRETRAINED`).
        backend: ``"core"``, which computes with 8 bits in C, or ``"torch"``, which computes in
            float32; if None, the core for the models that it runs, and PyTorch for others.

    Raises:
        ModelError: there is no such model, its files are damaged, or the core does not run it.
        MissingPackageError: PyTorch is needed and not installed.

    Example:
        >>> load_model("speech24k", backend="core").spec.name
        'speech24k'
    """
    check_backend(backend)
    if pretrained := pretrained_source(model):
        extra = "snac" if pretrained[0] == "snac" else "transformers"
        with optional_packages(f"a model of {pretrained[0]}", extra):
            from codec.engines.pretrained.families import load_pretrained

            return Model(load_pretrained(*pretrained))
    folder = find_model(model)
    engine: Engine
    if (backend or default_backend(folder)) == "core":
        from codec.engines.core import CoreEngine

        engine = CoreEngine(folder)
    else:
        with optional_packages("PyTorch's engine", "torch"):
            from codec.engines.torch import TorchEngine
            from codec.network.weights import load_codec

        engine = TorchEngine(load_codec(folder), read_description(folder)["name"])
    return Model(engine, StoredContext(folder, engine.spec.fingerprint))


def default_backend(folder: Path) -> Backend:
    """What computes the model in a folder if nobody says otherwise.

    Raises:
        ModelError: its description is damaged.
    """
    config = CodecConfig.from_dict(read_description(folder)["codec"])
    return "torch" if unsupported(config) else "core"


def as_model(model: ModelLike | None) -> Model:
    """The model that ``model`` is or names; the default one if it is None.

    Packaged models are loaded once and shared by all sessions and threads, like those of
    `model_for`. The last four stay loaded until the process ends; whoever needs a model that ends
    with its sessions gives one of `load_model`. A model folder, which may change, is loaded anew.

    Raises:
        ModelError: there is no such model.

    Example:
        >>> from codec import load_codec
        >>> as_model(load_codec()).spec.num_codebooks
        20
    """
    if model is None:
        model = DEFAULT_MODEL
    if isinstance(model, str | Path):
        if pretrained_source(model) or not is_packaged(model):
            return load_model(model)
        return _packaged(find_model(model))
    if isinstance(model, Model):
        return model
    if isinstance(model, Engine):
        return Model(model)
    if (network := sys.modules.get("codec.network.model")) and isinstance(model, network.Codec):
        from codec.engines.torch import TorchEngine

        return Model(TorchEngine(model))
    raise ModelError(
        f"{type(model).__name__} is not a model: give one of load_model(), an engine, a Codec, the "
        "name of a packaged model or a model folder"
    )


def model_for(header: Header, model: ModelLike | None = None) -> Model:
    """The model that a stream was made with.

    Args:
        header: header of the stream.
        model: the model that it names; None finds it among the packaged models.

    Raises:
        ModelError: no packaged model has that fingerprint, or ``model`` has another one.
        FormatError: the header contradicts the model.

    Example:
        >>> from codec import StreamEncoder
        >>> encoder = StreamEncoder()
        >>> model_for(encoder.header).spec.fingerprint == encoder.header.fingerprint
        True
    """
    check_type("header", header, Header, FormatError)
    loaded = packaged_model(header.fingerprint) if model is None else as_model(model)
    check_model(loaded, header)
    return loaded


def context_for(header: Header, model: ModelLike | None = None) -> ContextModel | None:
    """The context model that a stream was coded with; None if it has none.

    Args:
        header: header of the stream.
        model: the model that it names; None finds it among the packaged models.

    Raises:
        ModelError: there is no such model, or it is another one.
        FormatError: the header contradicts the model.
    """
    return model_for(header, model).context if header.context else None


def check_model(model: Model, header: Header) -> None:
    """Check that a stream was made with a model.

    Raises:
        ModelError: the stream names another model.
        FormatError: it names this model but has another shape.
    """
    spec = model.spec
    if header.fingerprint != spec.fingerprint:
        raise ModelError(
            f"the stream was made with model {header.fingerprint.hex()}, this one is "
            f"{spec.fingerprint.hex()}: give the right folder with --model"
        )
    same = (header.sample_rate, header.hop_length) == (spec.sample_rate, spec.hop_length)
    if not (same and _has_codes_of(header, spec)):
        raise FormatError(
            "the header contradicts the model that it names: the stream is damaged or forged"
        )
    if not header.context:
        return
    own = model.context.identity if model.context else b""
    if own != header.context:
        raise ModelError(
            f"the stream was coded with context model {header.context.hex()}, this model has "
            f"{own.hex() or 'none'}: give the right folder with --model"
        )


def _has_codes_of(header: Header, spec: CodecSpec) -> bool:
    """Whether a stream may have codes of a model.

    In a group there may be fewer channels than the model codes together, see `ChannelGroups`.
    """
    if header.channels_coded_together > spec.channels_coded_together:
        return False
    if header.codebooks == spec.codebooks[: header.num_codebooks]:
        return True
    # Streams of format 1 and 2 were once written for all models, with a codebook for each code.
    found = header.num_codes()
    if not header.has_simple_codes or header.bits != spec.bits[:found]:
        return False
    if found not in {spec.num_codes(count + 1) for count in range(spec.num_codebooks)}:
        raise FormatError(
            f"the stream has {found} codes per frame, which are not whole codebooks of its model: "
            "peel the original again, with --model"
        )
    return True


def packaged_model(fingerprint: bytes) -> Model:
    """The packaged model with a fingerprint; loaded once per process.

    Raises:
        ModelError: no packaged model has that fingerprint.

    Example:
        >>> packaged_model(load_model().spec.fingerprint).spec.name
        'speech24k'
    """
    folder = find_by_fingerprint(fingerprint)
    if folder is None:
        raise ModelError(
            f"the stream was made with model {fingerprint.hex()}, which is not packaged: "
            "give the right folder with --model"
        )
    return _packaged(folder)


def check_backend(backend: object) -> None:
    """Raise a ModelError for what is no name of a backend."""
    if backend is not None and not (isinstance(backend, str) and backend in BACKENDS):
        raise ModelError(f"no backend {shown(backend)}: give one of {list(BACKENDS)}")


_packaged_lock = threading.Lock()
_load_packaged = lru_cache(maxsize=4)(load_model)


def _packaged(folder: Path) -> Model:
    with _packaged_lock:  # or threads that begin together would load one each
        return _load_packaged(folder)
