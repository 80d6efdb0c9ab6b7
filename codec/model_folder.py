"""Model folders, found, described and read.

    config.json          shape and name of the model
    weights.safetensors  in 8 bits if `aecodec export` wrote it, in 16 or 32 if training did
    context.safetensors  the context model, if there is one
    card.md              what it was trained on, how good it is, how to use it

`float_weights` and `quantized_weights` read weights of either kind, for PyTorch and for the core.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec.arguments import first_line
from codec.codes import CodecSpec
from codec.config import CodecConfig
from codec.core.network import check_supported
from codec.core.quantize import Tensors, dequantize, quantize
from codec.errors import CodecError, ModelError
from codec.hub import fetch_model, is_hub_model, read_regular

# 2: the lapped transform is fixed, and has a network of its own for gains.
FOLDER_FORMAT = 2
QUANTIZED_FORMAT = 3
"""The same with weights of 8 bits, as the core takes them."""
DEFAULT_MODEL = "speech24k"

MAX_DELAY_SECONDS = 10
MAX_JSON = 2**24
MAX_DIMENSIONS = 8

PACKAGED = Path(str(resources.files("codec") / "models"))
"""The folder of the packaged models."""

WEIGHTS = "weights.safetensors"

UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError, CodecError)
"""What may be raised where a file of a model is not as it should be."""

_KINDS = dict(F16="float16", F32="float32", I8="int8", I32="int32", U8="uint8", U16="uint16")
"""NumPy's names of the types of stored tensors."""


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
    if not isinstance(model, str | Path):
        raise ModelError(f"{model!r} is no model: give a name or a folder")
    names = sorted(entry.name for entry in PACKAGED.iterdir()) if PACKAGED.is_dir() else []
    folder = PACKAGED / str(model) if is_packaged(model) else Path(model)
    try:
        (folder / "config.json").stat()
    except (OSError, ValueError) as error:  # a name may be too long, or none at all
        raise ModelError(
            f"no model {str(model)!r}: give a folder with config.json and weights.safetensors, "
            f"or one of {names}"
        ) from error
    return folder


def is_packaged(model: str | Path) -> bool:
    """Whether this is the name of a packaged model.

    Example:
        >>> is_packaged("speech24k"), is_packaged("speech24k/..")
        (True, False)
    """
    return str(model) in (entry.name for entry in PACKAGED.iterdir())


def find_by_fingerprint(fingerprint: bytes) -> Path | None:
    """Folder of the packaged model with a fingerprint; None if there is none."""
    for folder in sorted(PACKAGED.glob("*/")):
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
        description = read_json(path)
        version = description["format"]
        config = CodecConfig.from_dict(description["codec"])
        # Folders of earlier versions have the delay in the table "codec".
        delay = description.setdefault("delay", description["codec"].get("delay"))
        if not is_whole(delay, MAX_DELAY_SECONDS * config.sample_rate):
            raise ValueError(
                f"delay is {delay!r}: it is a whole number of samples, {MAX_DELAY_SECONDS} seconds "
                "at most"
            )
        if delay != config.delay:
            raise ValueError(f"it gives a delay of {delay} samples, its layers have {config.delay}")
        if not isinstance(description["name"], str):
            raise TypeError("name is not a string")
        description["name"].encode()  # so that it can be shown
        check_hexadecimal(description, "fingerprint", 32)
        check_hexadecimal(description, "weights_sha256", 64)
    except UNREADABLE as error:
        raise ModelError(f"{path} is not a model description: {reason_of(error)}") from error
    if version not in (FOLDER_FORMAT, QUANTIZED_FORMAT):
        older = isinstance(version, int) and version < FOLDER_FORMAT
        remedy = "train it again, or use aecodec 0.1" if older else "upgrade aecodec"
        raise ModelError(
            f"{path} has format {version}, this version reads {FOLDER_FORMAT} and "
            f"{QUANTIZED_FORMAT}: {remedy}"
        )
    return dict(description)


def stored_spec(description: dict[str, Any], config: CodecConfig) -> CodecSpec:
    """The geometry of the codes of a model folder, from `read_description` and its ``codec``."""
    return CodecSpec(
        name=description["name"],
        sample_rate=config.sample_rate,
        hop_length=config.hop_length,
        codebooks=config.codebooks,
        channels_coded_together=config.channels,
        delay=description["delay"],
        tail=description["delay"],
        fingerprint=bytes.fromhex(description["fingerprint"]),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Contents of a file with a JSON object.

    Raises:
        OSError, ValueError, RecursionError, ModelError: see `UNREADABLE`.
    """
    if (size := path.stat().st_size) > MAX_JSON:
        raise ValueError(f"it has {size} bytes, {MAX_JSON} at most are read")
    content = json.loads(read_regular(path).decode())
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    return content


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, in one line, from one of `UNREADABLE`."""
    return f"it has no {error}" if isinstance(error, KeyError) else first_line(error)


def is_whole(value: object, highest: int) -> bool:
    """Whether a value from JSON is a whole number from 0 to ``highest``."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest


def check_hexadecimal(description: dict[str, Any], key: str, digits: int) -> None:
    """Raise a ValueError if a value is not a number of hexadecimal digits."""
    value = description[key]
    if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
        raise ValueError(f"{key} is {value!r}: it has {digits} hexadecimal digits")


def read_weights(folder: Path, description: dict[str, Any]) -> bytes:
    """Contents of the file of weights, checked against ``description``, that of ``config.json``.

    Raises:
        ModelError: the file is missing, or not the one that ``config.json`` names.
    """
    path = folder / WEIGHTS
    data = read_regular(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != description["weights_sha256"]:
        raise ModelError(
            f"{path} is damaged or from another model: its SHA-256 is {digest[:16]}, "
            f"config.json says {description['weights_sha256'][:16]}; copy the folder again"
        )
    return data


def stored_tensors(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """What a file of tensors in the format of safetensors holds, by name.

    Eight bytes of length, a table in JSON, then the values, little-endian. The package safetensors
    is not part of a plain install.

    Raises:
        ModelError: the file is damaged, or has tensors of another type than models have.
    """
    try:
        (size,) = struct.unpack_from("<Q", data)
        table = json.loads(data[8 : 8 + size])
        if not isinstance(table, dict):
            raise TypeError("it is no JSON object")
        "".join(table).encode()  # so that names can be shown
        values, tensors = memoryview(data)[8 + size :], {}
        left = len(values)  # or a small file could fill the memory
        for name, entry in table.items():
            if name != "__metadata__":
                tensors[name] = _stored_tensor(entry, values)
                left -= tensors[name].nbytes
                if left < 0:
                    raise ValueError("its tensors lie over one another")
        return tensors
    except (struct.error, *UNREADABLE) as error:
        raise ModelError(
            f"the table of the stored tensors is damaged: {reason_of(error)}; copy the model again"
        ) from error


def _stored_tensor(entry: dict[str, Any], values: memoryview) -> npt.NDArray[Any]:
    kind, shape, end = _KINDS[entry["dtype"]], entry["shape"], len(values)
    first, last = entry["data_offsets"]
    if len(shape) > MAX_DIMENSIONS or not all(
        is_whole(each, end) for each in (*shape, first, last)
    ):
        raise ValueError("sizes and places are no whole numbers below the size of the file")
    if last - first != prod(shape) * np.dtype(kind).itemsize:
        raise ValueError(f"a tensor of shape {shape} does not lie at {first} to {last}")
    # A file may have them anywhere, and the core reads them in place.
    return np.require(np.frombuffer(values[first:last], kind).reshape(shape), None, "A")


def as_stored(tensors: Tensors) -> bytes:
    """A file for `stored_tensors`, the same that the package safetensors writes."""
    kinds = {name: kind for kind, name in _KINDS.items()}
    table, parts, start = {}, [], 0
    # Wide types first, so that every value lies at a multiple of its size.
    for name, value in sorted(tensors.items(), key=lambda each: (-each[1].itemsize, each[0])):
        parts.append(value.tobytes())
        place = [start, start + len(parts[-1])]
        start = place[1]
        facts = {"dtype": kinds[value.dtype.name], "shape": list(value.shape)}
        table[name] = facts | {"data_offsets": place}
    head = json.dumps(table, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([struct.pack("<Q", len(head)), head, *parts])


def float_weights(folder: Path, description: dict[str, Any]) -> dict[str, npt.NDArray[np.float32]]:
    """The weights of a model in float32, by their names in PyTorch.

    Args:
        folder: the model folder.
        description: from `read_description`.

    Raises:
        ModelError: the file of weights is damaged, or does not fit ``config.json``.
    """
    tensors = _read_tensors(folder, description)
    if description["format"] == QUANTIZED_FORMAT:
        with _fitting(folder):
            return dequantize(tensors, CodecConfig.from_dict(description["codec"]))
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def quantized_weights(folder: Path, description: dict[str, Any]) -> Tensors:
    """The tensors of a model for the core, see `codec.core.quantize`.

    Args:
        folder: the model folder.
        description: from `read_description`.

    Raises:
        ModelError: the file of weights is damaged, does not fit ``config.json``, or the core does
            not compute the model.
    """
    config = CodecConfig.from_dict(description["codec"])
    check_supported(config)
    if description["format"] == QUANTIZED_FORMAT:
        return _read_tensors(folder, description)
    with _fitting(folder):
        return quantize(float_weights(folder, description), config)


def _read_tensors(folder: Path, description: dict[str, Any]) -> Tensors:
    tensors = stored_tensors(read_weights(folder, description))
    for name, value in tensors.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ModelError(
                f"{folder / WEIGHTS}: not all values of {name} are numbers; copy the folder again"
            )
    return tensors


@contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    """Say of what file it is that a tensor is missing or has another shape."""
    try:
        yield
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{folder / WEIGHTS} does not fit its config.json: {reason_of(error)}"
        ) from error


def count_parameters(model: str | Path) -> int:
    """Number of parameters of a model."""
    folder = find_model(model)
    weights = float_weights(folder, read_description(folder))
    return sum(value.size for value in weights.values())
