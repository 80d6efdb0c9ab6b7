"""Model folders: ``config.json``, ``weights.safetensors``, ``card.md``; found and described.

No torch here: ``aecodec info`` answers at once. `codec.network.weights` loads the weights.
"""

from __future__ import annotations

import json
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from codec.config import CodecConfig
from codec.errors import CodecError, ModelError

# 2: the lapped transform is fixed, and has a network of its own for gains.
FOLDER_FORMAT = 2
DEFAULT_MODEL = "speech24k"


def find_model(model: str | Path) -> Path:
    """The folder of a packaged model's name, or of a path."""
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
    """The packaged model that a stream names, if there is one."""
    packaged = Path(str(resources.files("codec") / "models"))
    for folder in sorted(packaged.glob("*/")):
        if read_description(folder)["fingerprint"] == fingerprint.hex():
            return folder
    return None


def read_description(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model folder, checked for its format version."""
    path = folder / "config.json"
    try:
        description = json.loads(path.read_text("utf-8"))
        version = description["format"]
        CodecConfig.from_dict(description["codec"])
        for key in ("name", "fingerprint", "weights_sha256"):
            if not isinstance(description[key], str):
                raise TypeError(f"{key} is not a string")
    except (OSError, ValueError, KeyError, TypeError, CodecError) as error:
        raise ModelError(f"{path} is not a model description: {error}") from error
    if version != FOLDER_FORMAT:
        older = isinstance(version, int) and version < FOLDER_FORMAT
        remedy = "train it anew, or use aecodec 0.1" if older else "upgrade aecodec"
        raise ModelError(
            f"{path} has format {version}, this version reads {FOLDER_FORMAT}: {remedy}"
        )
    return dict(description)


def write_atomically(path: Path, data: bytes) -> None:
    """All of the file or nothing of it, even when interrupted."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
