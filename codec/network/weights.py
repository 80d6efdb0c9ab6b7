"""Models to and from their folders. Nothing is unpickled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from codec.config import CodecConfig
from codec.errors import ModelError
from codec.io.outputs import write_atomically
from codec.model_folder import DEFAULT_MODEL, FOLDER_FORMAT, find_model, read_description
from codec.network.model import Codec


def load_codec(model: str | Path = DEFAULT_MODEL) -> Codec:
    """Load a model for coding: in evaluation mode, on the CPU, in float32.

    Args:
        model: name of a packaged model, or path of a model folder.

    Raises:
        ModelError: there is no such model, or its files do not belong together.
    """
    folder = find_model(model)
    description = read_description(folder)
    path = folder / "weights.safetensors"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != description["weights_sha256"]:
        raise ModelError(
            f"{path} is damaged or from another model: its SHA-256 is {digest[:16]}, "
            f"config.json says {description['weights_sha256'][:16]}; copy the folder anew"
        )
    codec = Codec(CodecConfig.from_dict(description["codec"]))
    try:
        tensors = safetensors.torch.load(data)
        codec.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} does not fit its config.json: {reason}") from error
    codec.fingerprint = fingerprint(codec.config, tensors)
    if codec.fingerprint.hex() != description["fingerprint"]:
        raise ModelError(
            f"{folder}/config.json names the model {description['fingerprint']}, its weights are "
            f"{codec.fingerprint.hex()}; copy the folder anew"
        )
    return codec.eval().requires_grad_(False)


def save_codec(
    codec: Codec, folder: str | Path, *, name: str, card: str = "", half: bool = True
) -> None:
    """Write a model folder that `load_codec` reads, each file by rename.

    Args:
        codec: the model; it is not changed.
        folder: made if missing; what it held of another model is replaced.
        name: for people, shown by ``aecodec info``.
        card: text of ``card.md``; an existing card is kept if this is empty.
        half: store weights as float16, which halves the file and costs no audible quality.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = torch.float16 if half else torch.float32
    tensors = {
        key: value.detach().cpu().to(kind).contiguous() for key, value in codec.state_dict().items()
    }
    data = safetensors.torch.save(tensors)
    description = {
        "format": FOLDER_FORMAT,
        "name": name,
        "fingerprint": fingerprint(codec.config, tensors).hex(),
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "codec": codec.config.to_dict(),
    }
    write_atomically(folder / "weights.safetensors", data)
    write_atomically(folder / "config.json", (json.dumps(description, indent=2) + "\n").encode())
    if card:
        write_atomically(folder / "card.md", card.encode())


def fingerprint(config: CodecConfig, tensors: dict[str, Tensor]) -> bytes:
    """16 bytes that name what codes mean: encoder, quantizer, and the shape of the stream.

    The decoder is left out on purpose: one that was trained further against the same codes
    decodes every stream made before. Settings at their default are left out too: they came
    after models whose streams must go on to be found.
    """
    digest = hashlib.sha256()
    shape = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if not field.name.startswith("decoder_") and getattr(config, field.name) != field.default
    }
    digest.update(json.dumps(shape, sort_keys=True).encode())
    for key in sorted(tensors):
        if not key.startswith("decoder."):
            tensor = tensors[key]
            digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.digest()[:16]
