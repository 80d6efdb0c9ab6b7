"""Weights in 8 bits: how near they are, and that reading them back loses nothing more."""

from __future__ import annotations

import numpy as np
import pytest

from codec.core.quantize import dequantize, quantize
from codec.network.model import Codec
from tests.conftest import LAPPED


def weights_of(codec: Codec) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in codec.state_dict().items()}


@pytest.mark.parametrize("name", ["lapped", "ladder", "stereo", "fsq", "fine"])
def test_what_was_read_back_is_quantized_to_the_same_bits(
    name: str, request: pytest.FixtureRequest
) -> None:
    codec: Codec = request.getfixturevalue(name)
    weights = weights_of(codec)
    tensors = quantize(weights, codec.config)
    before = {key: value.copy() for key, value in tensors.items()}
    found = dequantize(tensors, codec.config)
    again = quantize(found, codec.config)
    assert tensors.keys() == before.keys() == again.keys()
    for key, value in before.items():
        assert again[key].dtype == tensors[key].dtype == value.dtype
        assert np.array_equal(again[key], value) and np.array_equal(tensors[key], value), key
    assert found.keys() == weights.keys()
    for key, original in weights.items():
        assert found[key].shape == original.shape
        if key.endswith(".weight") and f"{key.removesuffix('.weight')}.scale" in tensors:
            assert np.abs(found[key] - original).max() <= np.abs(original).max() / 253
            assert not np.array_equal(found[key], original)
        else:
            assert np.array_equal(found[key], original), key


@pytest.mark.parametrize("size", [1e-45, 1e-43, 3e-39, 1e-37, 1e-30, 1e30])
def test_weights_of_any_size_come_back(lapped: Codec, size: float) -> None:
    """Blocks whose scale would be no normal number become zero."""
    weights = weights_of(lapped)
    rng = np.random.default_rng(0)
    name = "encoder.project.weight"
    with np.errstate(under="ignore"):
        values = rng.uniform(-1, 1, weights[name].shape) * size
        weights[name] = values.astype(np.float32)
    tensors = quantize(weights, LAPPED)
    assert np.abs(tensors[name]).max() in ((0,) if size < 1e-36 else (127,))
    again = quantize(dequantize(tensors, LAPPED), LAPPED)
    assert all(np.array_equal(again[key], value) for key, value in tensors.items())


@pytest.mark.parametrize("seed", range(4))
def test_a_scale_survives_for_every_largest_weight(lapped: Codec, seed: int) -> None:
    """127 times a scale is rounded, and so is what is divided by 127 again."""
    weights = weights_of(lapped)
    name = "decoder.body.layers.0.linear.weight"
    rng = np.random.default_rng(seed)
    shape = weights[name].shape
    values = rng.uniform(1, 2, shape) * 2.0 ** rng.integers(-20, 20, shape)
    weights[name] = values.astype(np.float32)
    tensors = quantize(weights, LAPPED)
    again = quantize(dequantize(tensors, LAPPED), LAPPED)
    assert np.array_equal(again[name], tensors[name])
    scale = name.replace("weight", "scale")
    assert np.array_equal(again[scale], tensors[scale])
