"""Writes what decode.c reads: a model in one file, and a recording as packets of a frame.

python examples/c/export.py examples/speech.flac speech.model speech.packets --codebooks 12
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from codec import load_model
from codec.config import CodecConfig
from codec.core.network import shape_of
from codec.entropy.coding import encode_packets
from codec.model_folder import find_model, quantized_weights, read_description

LOST = bytes(3)
TYPES = ("float32", "int8", "int32", "uint16", "uint32")
"""See ``model.h``."""


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by name, as ``model.h`` describes."""
    with path.open("wb") as file:
        for name, values in arrays.items():
            kind = TYPES.index(values.dtype.name)
            data = values.astype(values.dtype.newbyteorder("<")).tobytes()
            file.write(struct.pack("<112sIIQ", name.encode(), kind, values.itemsize, values.size))
            file.write(data + bytes(-len(data) % 16))


def model_arrays(name: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a model: its shape, the tensors of the network, those of the context model."""
    folder = find_model(name)
    description = read_description(folder)
    config = CodecConfig.from_dict(description["codec"])
    context = load_model(name).context
    assert context is not None
    shape, _, values, biases, order = context.__getstate__()
    sizes = shape.num_codebooks, shape.codebook_size, shape.entry_dim, shape.width, shape.hidden
    return {
        "config": np.frombuffer(bytes(shape_of(config)), np.int32),
        **quantized_weights(folder, description),
        "context.sizes": np.array(sizes, np.uint32),
        "context.dilations": np.array(shape.dilations, np.uint32),
        "context.weights": values,
        "context.biases": biases,
        "context.order": order,
    }


def read_frames(path: Path, sample_rate: int, hop_length: int) -> npt.NDArray[np.float32]:
    """The first channel of a recording, ``[1, samples]`` of whole frames."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    audio = soxr.resample(audio[:, 0], rate, sample_rate)
    return np.pad(audio, (0, -len(audio) % hop_length))[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("model", type=Path, help="the file to write the model to")
    parser.add_argument("packets", type=Path, help="the file to write the packets to")
    parser.add_argument("--codebooks", type=int, default=12)
    parser.add_argument("--lose", type=int, help="one packet of so many")
    arguments = parser.parse_args()
    write_arrays(arguments.model, model_arrays("speech24k"))
    model = load_model(backend="core")
    assert model.context is not None
    audio = read_frames(arguments.recording, model.spec.sample_rate, model.spec.hop_length)
    codes, _ = model.engine.encode_step(audio, model.engine.init_encoder(1), arguments.codebooks)
    payloads, _ = encode_packets(model.context, codes.transpose(2, 0, 1)[..., None])
    with arguments.packets.open("wb") as file:
        for number, payload in enumerate(payloads, 1):
            lost = arguments.lose and number % arguments.lose == 0
            head = struct.pack("<BH", arguments.codebooks, len(payload))
            file.write(LOST if lost else head + payload)


if __name__ == "__main__":
    main()
