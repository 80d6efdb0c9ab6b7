"""Weights of a model as the core takes them: matrices of 8 bits with a scale for each block.

`quantize` makes them of weights in float32, and `dequantize` is its inverse.

A matrix ``[outputs, inputs]`` is cut along its inputs into blocks of `BLOCK` values, which share a
scale. Rows of activations are padded to whole blocks, and where a row has several parts (taps of a
convolution, parts of a spectrum) each part is, so that no block has values of two parts. Everything
here is rounded the same way on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.config import CodecConfig

BLOCK = 32
"""Inputs that share a scale, ``AEC_BLOCK`` of the core."""
LARGEST = 127
SPECTRA = 4
"""That the second stage sees: of the audio, of two earlier periods, and of the pulses."""
PITCH_STEPS = 120

Arrays: TypeAlias = Mapping[str, npt.NDArray[np.float32]]
Tensors: TypeAlias = dict[str, npt.NDArray[Any]]


def quantize(weights: Arrays, config: CodecConfig) -> Tensors:
    """The tensors of a model for the core.

    Args:
        weights: those of ``weights.safetensors``, by name.
        config: shape of the model.

    Returns:
        By name: ``NAME.weight`` (int8), ``NAME.scale`` and ``NAME.bias`` of every linear layer, and
        all other tensors as they are.

    Raises:
        KeyError, ValueError: the weights do not fit the config.
    """
    tensors: Tensors = {}
    matrices = set()
    for name, inputs, outputs, repeats in _matrices(config):
        weight = _padded(_padded(weights[f"{name}.weight"], inputs, axis=1), outputs, axis=0)
        tensors[f"{name}.weight"], tensors[f"{name}.scale"] = _rounded(weight)
        # The bias of a transposed convolution is that of its output, which sums two patches.
        bias = np.zeros(sum(outputs), np.float32) if repeats else weights[f"{name}.bias"]
        tensors[f"{name}.bias"] = _padded(bias, outputs, axis=0)
        matrices |= {f"{name}.weight", f"{name}.bias"}
        if repeats:
            parent = name.removesuffix(".linear")
            # Of the last layer of a codec without lapped transform, all samples are one part.
            bias = np.tile(weights[f"{parent}.bias"], repeats)
            tensors[f"{parent}.bias"] = _padded(bias, outputs[: len(outputs) // 2], axis=0)
            matrices.add(f"{parent}.bias")
    return tensors | {name: value for name, value in weights.items() if name not in matrices}


def dequantize(tensors: Tensors, config: CodecConfig) -> dict[str, npt.NDArray[np.float32]]:
    """The weights of a model in float32, for PyTorch.

    Args:
        tensors: from `quantize`.
        config: shape of the model.

    Returns:
        Scales times values, by the names that `quantize` takes; `quantize` gives the same tensors
        again, to the bit.

    Raises:
        KeyError, ValueError: the tensors do not fit the config.
    """
    rest, weights = dict(tensors), {}
    for name, inputs, outputs, repeats in _matrices(config):
        shape = _padded_size(outputs), _padded_size(inputs)
        values = _taken(rest, f"{name}.weight", "int8", shape)
        scales = _taken(rest, f"{name}.scale", "float32", (shape[0], shape[1] // BLOCK))
        weight = (values.reshape(shape[0], -1, BLOCK) * scales[..., None]).reshape(shape)
        weights[f"{name}.weight"] = weight[np.ix_(_places(outputs), _places(inputs))]
        bias = _taken(rest, f"{name}.bias", "float32", shape[:1])
        if repeats:
            name, outputs = name.removesuffix(".linear"), outputs[: len(outputs) // 2]
            bias = _taken(rest, f"{name}.bias", "float32", (_padded_size(outputs),))
        bias = bias[_places(outputs)]
        weights[f"{name}.bias"] = bias[: len(bias) // (repeats or 1)]
    return weights | {name: _taken(rest, name, "float32", rest[name].shape) for name in [*rest]}


def _taken(tensors: Tensors, name: str, kind: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Remove a tensor; a ValueError if it has another type or shape."""
    value = tensors.pop(name)
    if value.dtype != kind or value.shape != shape:
        raise ValueError(
            f"{name} is {value.dtype} {list(value.shape)} in place of {kind} {list(shape)}"
        )
    return value


def _matrices(config: CodecConfig) -> Iterator[tuple[str, Sequence[int], Sequence[int], int]]:
    """Linear layers: name, parts of the input and of the output, and repeats of an outer bias."""
    kernel = config.kernel_size

    def units(name: str, channels: int, count: int, first: int) -> Iterator[Any]:
        for index in range(first, first + count):
            yield f"{name}.{index}.conv.linear", [channels] * kernel, [channels], 0
            yield f"{name}.{index}.project", [channels], [channels], 0

    layer, channels = 0, config.channels
    for level, stride in enumerate(config.strides):
        width = config.encoder_channels[level]
        if level == 0 and config.lapped_transform:
            yield "encoder.body.layers.0.project", [stride], [width], 0
        else:
            patch = [channels] * stride if level else [stride * channels]
            yield f"encoder.body.layers.{layer}.linear", 2 * patch, [width], 0
        count = len(config.encoder_dilations[level])
        yield from units("encoder.body.layers", width, count, layer + 1)
        layer, channels = layer + 1 + count, width
    yield "encoder.project", [channels], [config.latent_dim], 0

    channels = config.decoder_channels[-1]
    yield "decoder.body.layers.0.linear", [config.latent_dim] * kernel, [channels], 0
    layer = 1
    for level in reversed(range(len(config.strides))):
        count, stride = len(config.decoder_dilations[level]), config.strides[level]
        yield from units("decoder.body.layers", channels, count, layer)
        layer += count
        if level == 0 and config.lapped_transform:
            name = f"decoder.body.layers.{layer}"
            yield f"{name}.head", [channels], [stride], 0
            yield f"{name}.hidden", [channels], [channels], 0
            yield f"{name}.gain", [channels], [stride], 0
            break
        width = config.decoder_channels[level - 1] if level else config.channels
        patch = [width] * stride if level else [width * stride]
        yield f"decoder.body.layers.{layer}.linear", [channels], 2 * patch, stride
        layer, channels = layer + 1, width
    if config.decoder_fine_stride:
        yield from _fine_matrices(config, units)


def _fine_matrices(config: CodecConfig, units: Any) -> Iterator[tuple[str, Any, Any, int]]:
    """Those of the second stage of a decoder."""
    name, width = "decoder.fine", config.decoder_fine_channels
    features = config.decoder_channels[0]
    bins, ratio = config.decoder_fine_stride + 1, config.strides[0] // config.decoder_fine_stride
    conditions, hidden = 3 * width // 4, 128
    yield f"{name}.pitch.conv.linear", [features] * 3, [hidden], 0
    yield f"{name}.pitch.logits", [hidden], [PITCH_STEPS + 1], 0
    yield f"{name}.condition", [features], [conditions] * ratio, 0
    yield f"{name}.enter.linear", [*[bins] * (2 * SPECTRA), conditions], [width], 0
    yield from units(f"{name}.units.layers", width, len(config.decoder_fine_dilations), 0)
    yield f"{name}.hidden", [width], [width], 0
    yield f"{name}.gain", [width], [bins], 0
    yield f"{name}.gains", [width], [bins] * (2 * (SPECTRA - 1)), 0
    yield f"{name}.change", [width], [bins] * 2, 0


def _padded(
    values: npt.NDArray[np.float32], parts: Sequence[int], axis: int
) -> npt.NDArray[np.float32]:
    """Zeros after every part along an axis, so that all are whole blocks."""
    if values.shape[axis] != sum(parts):
        raise ValueError(f"a matrix has {values.shape[axis]} in place of {sum(parts)} values")
    shape = list(values.shape)
    shape[axis] = _padded_size(parts)
    padded = np.zeros(shape, np.float32)
    padded[(slice(None),) * axis + (_places(parts),)] = values
    return padded


def _padded_size(parts: Sequence[int]) -> int:
    return sum(-(-part // BLOCK) * BLOCK for part in parts)


def _places(parts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where the values of parts lie among those of whole blocks."""
    places, start = [], 0
    for part in parts:
        places.append(start + np.arange(part))
        start += _padded_size([part])
    return np.concatenate(places)


def _rounded(
    weight: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Values of 8 bits ``[outputs, inputs]`` and scales ``[outputs, inputs / BLOCK]``."""
    blocks = weight.reshape(len(weight), -1, BLOCK)
    scales = np.abs(blocks).max(axis=-1) / np.float32(LARGEST)
    # Below the normal numbers a scale is too coarse, and not the same on every machine.
    scales[scales < np.finfo(np.float32).tiny] = 0
    divisors = np.where(scales > 0, scales, np.float32(1))
    values = np.rint(blocks / divisors[..., None]).astype(np.int8)
    return values.reshape(weight.shape), scales
