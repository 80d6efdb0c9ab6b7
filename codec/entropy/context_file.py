"""Context models as files: integer tensors in the format of safetensors, with their shape."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec.entropy.context import ContextModel, ContextShape
from codec.errors import ModelError
from codec.hub import read_regular
from codec.io.outputs import write_atomically
from codec.model_folder import UNREADABLE, is_whole, reason_of, stored_tensors

CONTEXT_FILE = "context.safetensors"
"""Name in a model folder."""

FORMAT = 1
LARGEST_SIZE, MOST_DILATIONS = 2**16, 64
# "meta" is the shape and the model whose codes it is about, as JSON.
_META = "meta"


@dataclasses.dataclass(frozen=True)
class StoredContext:
    """The context model in a model folder, if there is one, loaded when it is first needed.

    Plain streams do not need it, and loading and checking it takes as long as coding some seconds.

    Attributes:
        folder: the model folder.
        fingerprint: of the model in it.
    """

    folder: Path
    fingerprint: bytes

    @cached_property
    def model(self) -> ContextModel | None:
        """The context model, as from `load_context`."""
        return load_context(self.folder, self.fingerprint)


def save_context(
    folder: Path,
    shape: ContextShape,
    tensors: Mapping[str, npt.NDArray[Any]],
    fingerprint: bytes,
) -> ContextModel:
    """Write a context model to the folder of its model.

    Args:
        folder: the model folder.
        shape: sizes of the context model.
        tensors: see `ContextModel`.
        fingerprint: of the model whose codes it is about.

    Returns:
        The context model, as `load_context` finds it.

    Raises:
        ModelError: it is not exact, see `ContextModel`.
    """
    from safetensors.numpy import save  # of no use to those who do not train

    ContextModel(shape, tensors)
    # Bytes are written in the order of memory, which must be that of the elements.
    types = {
        name: "int32" if name.endswith("_bias") else "uint16" if name == "order" else "int8"
        for name in shape.tensors
    }
    typed = {name: np.ascontiguousarray(tensors[name], kind) for name, kind in types.items()}
    meta = {
        "format": FORMAT,
        "model": fingerprint.hex(),
        "shape": dataclasses.asdict(shape),
    }
    encoded = np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8)
    write_atomically(folder / CONTEXT_FILE, save({**typed, _META: encoded}))
    context = load_context(folder, fingerprint)
    assert context is not None
    return context


def load_context(folder: Path, fingerprint: bytes) -> ContextModel | None:
    """The context model in a model folder; None if there is none.

    Args:
        folder: the model folder.
        fingerprint: of the model in it.

    Raises:
        ModelError: the file is damaged, of a newer format, or about the codes of another model.
    """
    path = folder / CONTEXT_FILE
    if not path.exists():
        return None
    data = read_regular(path)
    try:
        tensors = stored_tensors(data)
        meta = json.loads(tensors.pop(_META).tobytes())
        version, model, sizes = meta["format"], meta["model"], meta["shape"]
        shape = _shape(sizes)
    except UNREADABLE as error:
        raise ModelError(
            f"{path} is not a context model: {reason_of(error)}; copy the folder again"
        ) from error
    if version != FORMAT:
        raise ModelError(
            f"{path} has format {version!r}, this version reads {FORMAT}: upgrade aecodec"
        )
    if model != fingerprint.hex():
        raise ModelError(
            f"{path} is about the codes of model {model}, this one is {fingerprint.hex()}: "
            "fit it again with aecodec fit-context"
        )
    return ContextModel(shape, tensors, hashlib.sha256(data).digest()[:8])


def _shape(sizes: dict[str, Any]) -> ContextShape:
    """The sizes in a file; a ValueError or TypeError if they are impossible."""
    shape = ContextShape(**{**sizes, "dilations": tuple(sizes["dilations"])})
    for name, value in dataclasses.asdict(shape).items():
        for each in value if name == "dilations" else (value,):
            if not is_whole(each, LARGEST_SIZE) or each < 1:
                raise ValueError(f"{name} is {value!r}: sizes lie in 1 to {LARGEST_SIZE}")
    if shape.codebook_size < 2 or shape.codebook_size & (shape.codebook_size - 1):
        raise ValueError(f"codebook_size is {shape.codebook_size}: it is a power of two")
    if len(shape.dilations) > MOST_DILATIONS:
        raise ValueError(f"there are {len(shape.dilations)} dilations: {MOST_DILATIONS} at most")
    return shape
