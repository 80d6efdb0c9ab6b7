"""Model folders, found and described.

    config.json          shape and name of the model
    weights.safetensors
    card.md              what it was trained on, how good it is, how to use it
    graphs.json          describes the graphs, if there are any
    encoder.onnx         a step of the encoder, which refers to weights.safetensors
    decoder.onnx         a step of the decoder
    test_vectors.json    for other implementations

`codec.network.weights` loads the weights, `codec.engines.onnx` the graphs.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec.config import CodecConfig
from codec.errors import CodecError, ModelError
from codec.hub import fetch_model, is_hub_model

# 2: the lapped transform is fixed, and has a network of its own for gains.
FOLDER_FORMAT = 2
GRAPHS_FORMAT = 2
DEFAULT_MODEL = "speech24k"

WEIGHTS = "weights.safetensors"
GRAPHS, TEST_VECTORS = "graphs.json", "test_vectors.json"
ENCODER, DECODER = "encoder.onnx", "decoder.onnx"


def find_model(model: str | Path) -> Path:
    """The folder of a model.

    Args:
        model: name of a packaged model, path of a model folder, or ``hf://user/name``, which is
            downloaded once.

    Raises:
        ModelError: there is no such model.
    """
    if is_hub_model(model):
        return fetch_model(str(model))
    packaged = Path(str(resources.files("codec") / "models"))
    names = sorted(entry.name for entry in packaged.iterdir()) if packaged.is_dir() else []
    folder = packaged / str(model) if str(model) in names else Path(model)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"no model {str(model)!r}: give a folder with config.json and weights.safetensors, "
            f"or one of {names}"
        )
    return folder


def find_by_fingerprint(fingerprint: bytes) -> Path | None:
    """Folder of the packaged model with a fingerprint; None if there is none."""
    packaged = Path(str(resources.files("codec") / "models"))
    for folder in sorted(packaged.glob("*/")):
        if read_description(folder)["fingerprint"] == fingerprint.hex():
            return folder
    return None


def read_description(folder: Path) -> dict[str, Any]:
    """Contents of ``config.json`` in a model folder.

    The key ``delay``, in samples, is present for folders of earlier versions, too.

    Raises:
        ModelError: it is missing, damaged, or of another version of the format.
    """
    path = folder / "config.json"
    try:
        description = json.loads(path.read_text("utf-8"))
        version = description["format"]
        CodecConfig.from_dict(description["codec"])
        # Folders of earlier versions have the delay in the table "codec".
        description.setdefault("delay", description["codec"].get("delay"))
        if not isinstance(description["delay"], int):
            raise TypeError("delay is not a whole number")
        for key in ("name", "fingerprint", "weights_sha256"):
            if not isinstance(description[key], str):
                raise TypeError(f"{key} is not a string")
    except (OSError, ValueError, KeyError, TypeError, CodecError) as error:
        raise ModelError(f"{path} is not a model description: {error}") from error
    if version != FOLDER_FORMAT:
        older = isinstance(version, int) and version < FOLDER_FORMAT
        remedy = "train it again, or use aecodec 0.1" if older else "upgrade aecodec"
        raise ModelError(
            f"{path} has format {version}, this version reads {FOLDER_FORMAT}: {remedy}"
        )
    return dict(description)


def read_weights(folder: Path, description: dict[str, Any]) -> bytes:
    """Contents of the file of weights, checked against ``config.json``.

    Args:
        folder: a model folder.
        description: from `read_description`.

    Raises:
        ModelError: the file is missing, or not the one that ``config.json`` names.
    """
    path = folder / WEIGHTS
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != description["weights_sha256"]:
        raise ModelError(
            f"{path} is damaged or from another model: its SHA-256 is {digest[:16]}, "
            f"config.json says {description['weights_sha256'][:16]}; copy the folder again"
        )
    return data


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a file of weights.

    Attributes:
        kind: NumPy's name of its type.
        shape: its shape.
        offset: bytes before it in the file.
        length: its bytes.
    """

    kind: str
    shape: tuple[int, ...]
    offset: int
    length: int

    def read(self, weights: bytes) -> npt.NDArray[np.float32]:
        """Its values in float32, from the contents of the file."""
        part = weights[self.offset : self.offset + self.length]
        return np.frombuffer(part, self.kind).reshape(self.shape).astype(np.float32)


def stored_tensors(weights: bytes) -> dict[str, StoredTensor]:
    """What a file of weights in the format of safetensors holds, by name.

    Eight bytes of length, a table in JSON, then the values, little-endian.

    Args:
        weights: contents of the file, or at least its table.

    Example:
        >>> folder = find_model("speech24k")
        >>> data = read_weights(folder, read_description(folder))
        >>> stored_tensors(data)["encoder.project.weight"].shape
        (256, 256)
    """
    (size,) = struct.unpack_from("<Q", weights)
    table = json.loads(weights[8 : 8 + size])
    kinds = {"F16": "float16", "F32": "float32", "I8": "int8", "U8": "uint8", "U16": "uint16"}
    kinds["I32"] = "int32"
    return {
        name: StoredTensor(
            kind=kinds[entry["dtype"]],
            shape=tuple(entry["shape"]),
            offset=8 + size + entry["data_offsets"][0],
            length=entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in table.items()
        if name != "__metadata__"
    }


def count_parameters(model: str | Path) -> int:
    """Number of parameters of a model.

    Example:
        >>> count_parameters("speech24k")
        6877486
    """
    folder = find_model(model)
    weights = read_weights(folder, read_description(folder))
    return sum(prod(tensor.shape) for tensor in stored_tensors(weights).values())


def has_graphs(folder: Path) -> bool:
    """Whether a model folder has graphs."""
    return (folder / GRAPHS).is_file()


def remove_graphs(folder: Path) -> None:
    """Remove graphs, which are those of earlier weights, from a model folder."""
    for name in (GRAPHS, ENCODER, DECODER, TEST_VECTORS):
        (folder / name).unlink(missing_ok=True)


def read_graphs(folder: Path) -> dict[str, Any]:
    """Contents of ``graphs.json``.

    Raises:
        ModelError: it is missing, damaged, or of another version of the format.
    """
    path = folder / GRAPHS
    try:
        description = json.loads(path.read_text("utf-8"))
        version = description["format"]
        for side in ("encoder", "decoder"):
            for key in ("file", "sha256"):
                if not isinstance(description[side][key], str):
                    raise TypeError(f"{key} is not a string")
            for state in description[side]["states"]:
                _ = state["type"], [*state["shape"]], state["value"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} does not describe graphs: {error}; run aecodec export") from error
    if version != GRAPHS_FORMAT:
        raise ModelError(
            f"{path} has format {version}, this version reads {GRAPHS_FORMAT}: run aecodec export"
        )
    return dict(description)


def read_graph(folder: Path, description: dict[str, Any]) -> Path:
    """Path of a graph, checked.

    Args:
        folder: a model folder.
        description: of the side, from `read_graphs`.

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = folder / str(description["file"])
    if path.parent != folder:
        raise ModelError(
            f"{folder / GRAPHS} names {path}, which lies elsewhere: run aecodec export"
        )
    digest = hashlib.sha256(_read(path)).hexdigest()
    if digest != description["sha256"]:
        raise ModelError(
            f"{path} is damaged: its SHA-256 is {digest[:16]}, {GRAPHS} says "
            f"{description['sha256'][:16]}; run aecodec export, or copy the folder again"
        )
    return path


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a device or pipe may never end
        raise ModelError(f"{path} is not a regular file: copy the folder again")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
