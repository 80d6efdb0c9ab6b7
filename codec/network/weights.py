"""Load models from their folders and save them there, without pickle."""

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
from codec.io.outputs import files_together, write_atomically
from codec.model_folder import (
    DEFAULT_MODEL,
    FOLDER_FORMAT,
    WEIGHTS,
    find_model,
    float_weights,
    read_description,
)
from codec.network.model import Codec


def load_codec(model: str | Path = DEFAULT_MODEL) -> Codec:
    """Load a model for coding: in evaluation mode, on the CPU, in float32.

    Args:
        model: name of a packaged model, or path of a model folder.

    Raises:
        ModelError: there is no such model, or its files do not belong together.

    Example:
        >>> codec = load_codec("speech24k")
        >>> codec.config.sample_rate, codec.delay
        (24000, 300)
    """
    folder = find_model(model)
    description = read_description(folder)
    weights = float_weights(folder, description)
    codec = Codec(CodecConfig.from_dict(description["codec"]))
    try:
        codec.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{folder / WEIGHTS} does not fit its config.json: {reason}") from error
    codec.fingerprint = bytes.fromhex(description["fingerprint"])
    codec.fingerprinted = digest_of_codes(codec)
    return codec.eval().requires_grad_(False)


def save_codec(
    codec: Codec, folder: str | Path, *, name: str, card: str = "", half: bool = True
) -> None:
    """Write a model folder that `load_codec` reads. Each file is replaced as a whole.

    A model that was loaded keeps its fingerprint as long as encoder and bottleneck stay as they
    are, but for the precision in which they are stored.

    Args:
        codec: the model; it is not changed.
        folder: created if missing; the files of another model in it are replaced.
        name: for people, shown by ``aecodec info``.
        card: text of ``card.md``; an existing card is kept if this is empty.
        half: store weights as float16, which halves the file and costs no audible quality.

    Example:
        >>> import tempfile
        >>> codec = load_codec()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_codec(codec, folder, name="a copy")
        ...     load_codec(folder).fingerprint == codec.fingerprint
        True
    """
    folder = Path(folder)
    kind = torch.float16 if half else torch.float32
    tensors = {
        key: value.detach().cpu().to(kind).contiguous() for key, value in codec.state_dict().items()
    }
    data = safetensors.torch.save(tensors)
    is_known = codec.fingerprint and digest_of_codes(codec) == codec.fingerprinted
    identity = codec.fingerprint if is_known else fingerprint(codec.config, codec.delay, tensors)
    description = {
        "format": FOLDER_FORMAT,
        "name": name,
        "fingerprint": identity.hex(),
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "delay": codec.delay,
        "codec": codec.config.to_dict(),
    }
    with files_together(folder) as aside:
        write_atomically(aside / WEIGHTS, data)
        config = json.dumps(description, indent=2) + "\n"
        write_atomically(aside / "config.json", config.encode())
        if card:
            write_atomically(aside / "card.md", card.encode())


def digest_of_codes(codec: Codec) -> bytes:
    """What the fingerprint of a model would be if its weights were stored in half precision.

    It is the same for weights that differ only by that rounding.
    """
    halves = {name: value.detach().cpu().half() for name, value in codec.state_dict().items()}
    return fingerprint(codec.config, codec.delay, halves)


def fingerprint(config: CodecConfig, delay: int, tensors: dict[str, Tensor]) -> bytes:
    """16 bytes that identify the meaning of codes: encoder, bottleneck, and shape of the stream.

    The decoder is left out on purpose: a decoder that was trained further with the same codes
    decodes all earlier streams. Settings at their default are left out, too: they were added after
    models whose streams must still find them. The lookahead is left out because it is part of the
    delay, which is in samples. Tensors are the weights in the precision in which they are stored.
    """
    shape = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if not field.name.startswith("decoder_") and getattr(config, field.name) != field.default
    }
    shape.pop("lookahead", None)
    shape["delay"] = delay
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for key, tensor in sorted(tensors.items()):
        if not key.startswith("decoder."):
            digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.digest()[:16]
