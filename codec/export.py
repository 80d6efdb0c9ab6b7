"""`export_model`: a model folder whose weights have 8 bits, as the core takes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from codec.config import CodecConfig
from codec.core.network import Network, unsupported
from codec.entropy.context_file import CONTEXT_FILE
from codec.errors import CodecError, ModelError
from codec.hub import read_regular
from codec.io.outputs import files_together, write_atomically
from codec.model_folder import (
    QUANTIZED_FORMAT,
    WEIGHTS,
    as_stored,
    find_model,
    quantized_weights,
    read_description,
    stored_tensors,
)

COPIED = ("card.md", CONTEXT_FILE)
"""Files of a model that stay as they are."""


def export_model(model: str | Path, out: str | Path) -> None:
    """Write a model with weights of 8 bits, a fourth of those of float32.

    It has the same fingerprint: streams of one decode with the other.

    Args:
        model: name of a packaged model, or path of a model folder.
        out: another folder, created if missing; a model in it is replaced.

    Raises:
        ModelError: there is no such model, it is damaged, or the core does not compute it.
        CodecError: ``out`` is the folder of the model, which would lose precision.

    Example:
        >>> from codec.engines.core import CoreEngine
        >>> export_model("speech24k", "exported")
        >>> CoreEngine("exported").spec.name
        'speech24k'
    """
    source, target = find_model(model), Path(out)
    if target.exists() and target.samefile(source):
        raise CodecError(f"{target} is the model itself: give another folder")
    description, weights = model_in_8_bits(source)
    Network(CodecConfig.from_dict(description["codec"]), stored_tensors(weights))  # checks them
    with files_together(target) as aside:
        write_atomically(aside / WEIGHTS, weights)
        write_atomically(aside / "config.json", (json.dumps(description, indent=2) + "\n").encode())
        for name in COPIED:
            if (source / name).exists():
                write_atomically(aside / name, read_regular(source / name))
        # What the other model had, and this one has not, is not to be taken for its own.
        obsolete = [name for name in COPIED if not (aside / name).exists()]
    for name in obsolete:
        (target / name).unlink(missing_ok=True)


def model_in_8_bits(folder: Path) -> tuple[dict[str, Any], bytes]:
    """``config.json`` and the file of weights of a model folder, with weights of 8 bits.

    Whether they fit each other is seen when the model is made.

    Raises:
        ModelError: the folder is damaged, or the core does not compute the model.
    """
    description = read_description(folder)
    config = CodecConfig.from_dict(description["codec"])
    if reason := unsupported(config):
        raise ModelError(
            f"{folder} cannot be written in 8 bits: {reason}; PyTorch runs it as it is"
        )
    tensors = quantized_weights(folder, description)
    weights = as_stored(tensors)
    facts = {
        "format": QUANTIZED_FORMAT,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "codec": config.to_dict(),
    }
    return description | facts, weights
