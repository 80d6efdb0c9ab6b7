"""Export a model to ONNX graphs, which run without PyTorch.

What is exported is the network itself: one step of the encoder and one of the decoder, with the
whole state in inputs and outputs (docs/engines.md describes them). Graphs hold no weights: they
refer to their places in ``weights.safetensors``, which lies beside them. So they depend only on the
shape of a model, and training writes the same graphs whatever it learned.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxscript.optimizer
import torch
from onnxscript import opset18 as ops
from torch import Tensor, nn

from codec.config import CodecConfig
from codec.entropy.context_file import CONTEXT_FILE
from codec.errors import ModelError
from codec.hub import read_regular
from codec.io.outputs import files_together, write_atomically
from codec.model_folder import (
    DECODER,
    ENCODER,
    GRAPHS,
    GRAPHS_FORMAT,
    TEST_VECTORS,
    WEIGHTS,
    StoredTensor,
    find_model,
    read_description,
    read_weights,
    stored_tensors,
)
from codec.network.layers import State
from codec.network.model import Codec
from codec.network.weights import load_codec

MODEL_FILES = (WEIGHTS, "config.json", "card.md", CONTEXT_FILE)

# Sizes during export, where no two dimensions may be equal by chance, or one.
EXAMPLE_BATCH, EXAMPLE_FRAMES = 3, 5

# Constants of at most so many values are computed at export, such as transposed bases.
FOLDED_SIZE = 2**20

ANALYSIS = (
    ("errors", ("batch", "codebooks", "frames")),
    ("latent", ("batch", "frames", "dimensions")),
)
"""Further outputs of an encoder, and their dimensions."""

TEST_STEPS = (1, 1, 4)
"""Frames per step of the test vectors."""


class EncoderStep(nn.Module):
    """One step of an encoder on flat states: audio ``[B, T * hop]`` -> codes ``[B, K, T]``.

    Audio of a model that codes c channels together is ``[B, c, T * hop]``, also in `DecoderStep`.
    Further outputs say what each code is worth, see `Quantizer.encode_with_errors`, and what was
    quantized.
    """

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.encoder = codec.encoder
        self.quantizer = codec.require_codes()

    def forward(self, audio: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        state = unflatten(self.encoder.init_state(1), iter(states))
        latent, state = self.encoder(audio[..., None] if audio.dim() == 2 else audio.mT, state)
        codes, errors = self.quantizer.encode_with_errors(latent)
        return (codes, *flatten(state), errors, latent)


class DecoderStep(nn.Module):
    """One step of a decoder on flat states: codes ``[B, K, T]`` -> audio ``[B, T * hop]``.

    A code of -1 is absent. A frame without codes has a latent of zero, as after the last frame.
    """

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.decoder = codec.decoder
        self.quantizer = codec.require_codes()
        self._is_mono = codec.config.channels == 1

    def forward(self, codes: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        state = unflatten(self.decoder.init_state(1), iter(states))
        audio, state = self.decoder(self.quantizer.decode_present(codes), state)
        return (audio.squeeze(-1) if self._is_mono else audio.mT, *flatten(state))


def flatten(state: State) -> list[Tensor]:
    """The tensors of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    return [tensor for each in state for tensor in flatten(each)]


def unflatten(like: State, tensors: Iterator[Tensor]) -> State:
    """The inverse of `flatten`, for a state of the structure of ``like``."""
    if isinstance(like, Tensor):
        return next(tensors)
    return tuple(unflatten(each, tensors) for each in like)


def export_model(model: str | Path, out: str | Path) -> None:
    """Copy a model to another folder and add its graphs.

    Args:
        model: name of a packaged model, or path of a model folder.
        out: created if missing; may be the folder of the model itself.

    Raises:
        ModelError: there is no such model, it is damaged, or it cannot be exported.

    Example:
        >>> from codec.engines.onnx import OnnxEngine
        >>> export_model("speech24k", "exported")
        >>> OnnxEngine("exported").spec.name
        'speech24k'
    """
    source, target = find_model(model), Path(out)
    check_exportable(load_codec(source).config)
    if target.exists() and target.samefile(source):
        write_graphs(target)
        return
    with files_together(target) as aside:
        for name in MODEL_FILES:
            if (source / name).exists():
                (aside / name).write_bytes(read_regular(source / name))
        _write_graphs(source, aside)
        # What the other model had, and this one has not, is not to be taken for its own.
        obsolete = [name for name in MODEL_FILES if not (aside / name).exists()]
    for name in obsolete:
        (target / name).unlink(missing_ok=True)


def check_exportable(config: CodecConfig) -> None:
    """Check that a model has graphs.

    Raises:
        ModelError: it has none, with the reason.
    """
    if not config.has_codes:
        raise ModelError("a model with continuous latents has no graphs: use it with PyTorch")
    if config.recurrent != "none":
        raise ModelError(
            f"a model with recurrent layers ({config.recurrent}) has no graphs, because PyTorch "
            "exports these for one number of frames only: use it with PyTorch"
        )


def write_graphs(folder: Path) -> None:
    """Write graphs and test vectors beside the weights of a model folder.

    Raises:
        ModelError: the model is damaged or cannot be exported.
    """
    with files_together(folder) as aside:
        _write_graphs(folder, aside)


def _write_graphs(folder: Path, out: Path) -> None:
    """Write the graphs of a model folder to another one."""
    codec = load_codec(folder)
    check_exportable(codec.config)
    description = read_description(folder)
    stored = stored_tensors(read_weights(folder, description))
    vectors = json.dumps(compute_test_vectors(codec)).encode() + b"\n"
    write_atomically(out / TEST_VECTORS, vectors)
    sides: dict[str, Any] = {}
    for side, file in (("encoder", ENCODER), ("decoder", DECODER)):
        data = _with_weights(export_step(codec.config, side), stored)
        write_atomically(out / file, data)
        initial = flatten(getattr(codec, side).init_state(1))
        sides[side] = {
            "file": file,
            "sha256": hashlib.sha256(data).hexdigest(),
            "states": [_describe(tensor) for tensor in initial],
        }
    # The last file: what it lists is complete.
    graphs = {
        "format": GRAPHS_FORMAT,
        "weights_sha256": description["weights_sha256"],
        **sides,
    }
    write_atomically(out / GRAPHS, json.dumps(graphs, indent=2).encode() + b"\n")


def _describe(initial: Tensor) -> dict[str, Any]:
    """Type, shape without the batch, and the one value of a tensor of an initial state."""
    value = initial.flatten()[0].item()
    assert torch.equal(initial, torch.full_like(initial, value))
    kind = str(initial.dtype).removeprefix("torch.")
    return {"type": kind, "shape": list(initial.shape[1:]), "value": value}


@lru_cache(maxsize=32)
def export_step(config: CodecConfig, side: str) -> onnx.ModelProto:
    """The graph of a side of a model, whose weights are inputs with their names.

    Args:
        config: shape of the model.
        side: ``encoder`` or ``decoder``.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random draws stay as they are
        codec = Codec(config).eval().requires_grad_(False)
    codec.quantizer.train()  # without stacked codebooks, which would hide the weights
    batch, frames = torch.export.Dim("batch"), torch.export.Dim("frames")
    channels = ["channels"] if config.channels > 1 else []
    audio = "audio", ["batch", *channels, "samples"]
    codes = "codes", ["batch", "codebooks", "frames"]
    step: nn.Module
    if side == "encoder":
        step, ends = EncoderStep(codec), (audio, codes)
        sizes = (EXAMPLE_BATCH, *(config.channels for _ in channels))
        first = torch.zeros(*sizes, EXAMPLE_FRAMES * config.hop_length)
        shape = {0: batch, len(sizes): config.hop_length * frames}
    else:
        step, ends = DecoderStep(codec), (codes, audio)
        first = torch.zeros(EXAMPLE_BATCH, config.num_codebooks, EXAMPLE_FRAMES, dtype=torch.int64)
        shape = {0: batch, 2: frames}
    # Copies, since one tensor in two places would become one input.
    states = [each.clone() for each in flatten(getattr(codec, side).init_state(EXAMPLE_BATCH))]
    shapes = (shape, tuple({0: batch} for _ in states))
    model = _convert(step, (first, *states), shapes)
    _name_inputs_and_outputs(model.graph, ends, states)
    found: onnx.ModelProto = onnx_ir.to_proto(model)
    del found.graph.value_info[:]
    return found


def _convert(step: nn.Module, inputs: tuple[Tensor, ...], shapes: Any) -> onnx_ir.Model:
    """A step as an ONNX model. Its weights follow the other inputs, so that none is a constant."""
    with _quiet():
        program = torch.export.export(step, inputs, dynamic_shapes=shapes, strict=False)
        exported = torch.onnx.export(
            program,
            dynamo=True,
            optimize=False,
            verbose=False,
            custom_translation_table={torch.ops.aten.sigmoid.default: _sigmoid},
        )
    assert exported is not None
    model, graph = exported.model, exported.model.graph
    names = [name for name in step.state_dict() if name in graph.initializers]
    weights = [graph.initializers.pop(name) for name in names]
    for weight in weights:
        weight.const_value = None
    graph.inputs.extend(weights)
    onnxscript.optimizer.optimize(
        model, input_size_limit=FOLDED_SIZE, output_size_limit=FOLDED_SIZE
    )
    for node in graph.all_nodes():
        node.metadata_props.clear()  # where in PyTorch it comes from, which is most of the file
    model.metadata_props.clear()
    return model


def _name_inputs_and_outputs(
    graph: onnx_ir.Graph, ends: Sequence[tuple[str, list[str]]], states: Sequence[Tensor]
) -> None:
    """Names of the first input and output with their dimensions, of states, and of the analysis."""
    directions = ((graph.inputs, "in"), (graph.outputs, "out"))
    for (values, direction), (name, dimensions) in zip(directions, ends, strict=True):
        values[0].name, values[0].shape = name, onnx_ir.Shape(dimensions)
        for number, state in enumerate(states):
            value = values[1 + number]
            value.name = f"state_{direction}_{number}"
            value.shape = onnx_ir.Shape(["batch", *state.shape[1:]])
    further = graph.outputs[1 + len(states) :]
    for value, (name, sizes) in zip(further, ANALYSIS, strict=False):
        value.name, value.shape = name, onnx_ir.Shape(sizes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that it does without, and on its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _sigmoid(x: Any) -> Any:
    """The sigmoid of gains, also where it is nearly zero.

    onnxruntime approximates its own to an absolute error of 1e-7. A gain like that may belong to a
    coefficient of a thousand.
    """
    return ops.Reciprocal(ops.Add(ops.Exp(ops.Neg(x)), ops.Constant(value_float=1.0)))


def _with_weights(exported: onnx.ModelProto, stored: dict[str, StoredTensor]) -> bytes:
    """A graph whose weights are those of a file, converted to float32 where they are not."""
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    graph = model.graph
    casts = []
    for value in [value for value in graph.input if value.name in stored]:
        place = stored[value.name]
        graph.input.remove(value)
        weight = graph.initializer.add()
        weight.name = value.name
        weight.data_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(place.kind))
        weight.dims.extend(place.shape)
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, entry in (
            ("location", WEIGHTS),
            ("offset", place.offset),
            ("length", place.length),
        ):
            weight.external_data.add(key=key, value=str(entry))
        if weight.data_type != onnx.TensorProto.FLOAT:
            weight.name = f"{value.name} as stored"
            casts.append(
                onnx.helper.make_node(
                    "Cast", [weight.name], [value.name], to=onnx.TensorProto.FLOAT
                )
            )
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@torch.inference_mode()
def compute_test_vectors(codec: Codec) -> dict[str, Any]:
    """What an implementation of the graphs must compute: audio, its codes, and what they become.

    Args:
        codec: the model, in evaluation mode.
    """
    rng = np.random.default_rng(0)
    num_samples, channels = sum(TEST_STEPS) * codec.config.hop_length, codec.config.channels
    level = np.sin(np.pi * (np.arange(num_samples) + 0.5) / num_samples)
    noise = rng.standard_normal((channels, num_samples))
    integers = np.round(3000 * level * noise).astype(int)
    audio = torch.from_numpy(integers.astype(np.float32) / 32768)[None]
    codes, state = [], codec.encoder.init_state(1)
    for block in audio.split([frames * codec.config.hop_length for frames in TEST_STEPS], dim=-1):
        piece, state = codec.encode_step(block, state)
        codes.append(piece)
    decoded, state = [], codec.decoder.init_state(1)
    for piece in codes:
        sound, state = codec.decode_step(piece, state)
        decoded.append(sound)
    decoded.append(codec.flush_step(1, state))
    samples = torch.cat(decoded, dim=-1)[0].double().numpy().round(6)
    kept = 0 if channels == 1 else slice(None)
    return {
        "frames_per_step": list(TEST_STEPS),
        "flush_frames": codec.flush_frames,
        "audio_times_32768": integers[kept].tolist(),
        "codes": torch.cat(codes, dim=-1)[0].tolist(),
        "decoded": samples[kept].tolist(),
    }
