"""Export a model to ONNX graphs, for other programs.

What is exported is the network itself: one step of the encoder and one of the decoder, with the
whole state in inputs and outputs. docs/engines.md describes the files. Nothing here runs them.
"""

from __future__ import annotations

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
from codec.errors import ModelError
from codec.hub import read_regular
from codec.io.outputs import files_together, write_atomically
from codec.model_folder import find_model, read_description
from codec.network.layers import State
from codec.network.model import Codec
from codec.network.weights import load_codec

CARD, GRAPHS, TEST_VECTORS = "card.md", "graphs.json", "test_vectors.json"

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


def export_graphs(model: str | Path, out: str | Path) -> None:
    """Write the graphs of a packaged model or model folder to a folder of their own.

    The folder is created if missing, and graphs in it are replaced.

    Raises:
        ModelError: there is no such model, it is damaged, or it cannot be exported.
    """
    source, target = find_model(model), Path(out)
    description, codec = read_description(source), load_codec(source)
    check_exportable(codec.config)
    weights = {name: value.numpy() for name, value in codec.state_dict().items()}
    facts = {name: description[name] for name in ("name", "fingerprint", "delay")}
    facts |= {"hop_length": codec.config.hop_length, "codec": codec.config.to_dict()}
    with files_together(target) as aside:
        for side in ("encoder", "decoder"):
            graph = _with_weights(export_step(codec.config, side), weights)
            write_atomically(aside / f"{side}.onnx", graph)
            initial = flatten(getattr(codec, side).init_state(1))
            facts[side] = {"states": [_describe(tensor) for tensor in initial]}
        if (source / CARD).exists():
            write_atomically(aside / CARD, read_regular(source / CARD))
        write_atomically(aside / TEST_VECTORS, _json(compute_test_vectors(codec)))
        write_atomically(aside / GRAPHS, _json(facts, indent=2))


def _json(value: dict[str, Any], indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent).encode() + b"\n"


def check_exportable(config: CodecConfig) -> None:
    """Check that a model has graphs; if not, a `ModelError` has the reason."""
    if not config.has_codes:
        raise ModelError("a model with continuous latents has no graphs: use it with PyTorch")
    if config.recurrent != "none":
        raise ModelError(
            f"a model with recurrent layers ({config.recurrent}) has no graphs, because PyTorch "
            "exports these for one number of frames only: use it with PyTorch"
        )


def _describe(initial: Tensor) -> dict[str, Any]:
    """Type, shape without the batch, and the one value of a tensor of an initial state."""
    value = initial.flatten()[0].item()
    assert torch.equal(initial, torch.full_like(initial, value))
    kind = str(initial.dtype).removeprefix("torch.")
    return {"type": kind, "shape": list(initial.shape[1:]), "value": value}


@lru_cache(maxsize=32)
def export_step(config: CodecConfig, side: str) -> onnx.ModelProto:
    """The graph of an ``encoder`` or ``decoder``, whose weights are inputs with their names."""
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


def _with_weights(exported: onnx.ModelProto, weights: dict[str, Any]) -> bytes:
    """A graph whose weights are constants, and no longer inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    for value in [value for value in model.graph.input if value.name in weights]:
        model.graph.input.remove(value)
        weight = onnx.numpy_helper.from_array(weights[value.name], value.name)
        model.graph.initializer.append(weight)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


@torch.inference_mode()
def compute_test_vectors(codec: Codec) -> dict[str, Any]:
    """What an implementation of the graphs must compute: audio, its codes, and what they become."""
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
