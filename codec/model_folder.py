"""Model folders (``config.json``, ``weights.safetensors``, ``card.md``), found and described.

`codec.network.weights` loads the weights.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from codec.config import CodecConfig
from codec.errors import CodecError, ModelError
from codec.hub import fetch_model, is_hub_model

# 2: the lapped transform is fixed, and has a network of its own for gains.
FOLDER_FORMAT = 2
DEFAULT_MODEL = "speech24k"


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
