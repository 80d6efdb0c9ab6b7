"""Random models in the core: the same bits with every kernel and step, and no harm by any input.

    .ci/sanitize

runs this with a library that was built with sanitizers. Models have random shapes and weights.
Audio may be loud, faint, silent, infinite or NaN, states may hold any bytes, and sizes be wrong.
"""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from codec.config import CodecConfig
from codec.core import library
from codec.core.network import Network
from codec.core.quantize import _matrices, quantize
from codec.errors import CodecError
from tests.codec.core.kernels import KERNELS

SOUNDS = ("noise", "silence", "faint", "damaged", "any state")


def random_config(rng: np.random.Generator) -> CodecConfig:
    """A shape that `CodecConfig` accepts and the core computes."""
    levels, lapped = int(rng.integers(1, 4)), bool(rng.integers(2))
    latent_dim = int(rng.integers(1, 80))
    strides = rng.integers(1, 7, levels).tolist()
    fine = 0
    if lapped:
        strides[0] = int(rng.choice([2, 6, 10, 24, 40, 100, 240]))
        divisors = [each for each in range(1, strides[0] + 1) if strides[0] % each == 0]
        fine = int(rng.choice([0, *divisors]))

    def dilations() -> tuple[int, ...]:
        return tuple(rng.integers(1, 9, rng.integers(0, 4)).tolist())

    return CodecConfig(
        sample_rate=int(rng.choice([8_000, 24_000, 48_000])),
        strides=tuple(strides),
        encoder_channels=tuple(rng.integers(1, 70, levels).tolist()),
        decoder_channels=tuple(rng.integers(1, 70, levels).tolist()),
        encoder_dilations=tuple(dilations() for _ in range(levels)),
        decoder_dilations=tuple(dilations() for _ in range(levels)),
        kernel_size=int(rng.integers(1, 6)),
        lapped_transform=lapped,
        latent_dim=latent_dim,
        num_codebooks=int(rng.integers(1, 6)),
        codebook_size=2 ** int(rng.integers(1, 9)),
        codebook_dim=min(latent_dim, int(rng.integers(1, 20))),
        bottleneck=str(rng.choice(["vq", "fsq"])),
        decoder_fine_stride=fine,
        decoder_fine_channels=int(rng.integers(4, 50)),
        decoder_fine_dilations=dilations(),
        channels=1 if lapped else int(rng.integers(1, 4)),
    )


def random_weights(config: CodecConfig, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of all layers, of a size that makes them loud, usual or faint."""

    def values(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    weights, scale = {}, np.float32(rng.choice([0.1, 1, 100]))
    for name, inputs, outputs, repeats in _matrices(config):
        layer, _, part = name.rpartition(".")
        weights[f"{name}.weight"] = values(sum(outputs), sum(inputs)) * scale / sum(inputs) ** 0.5
        if repeats:
            weights[f"{layer}.bias"] = values(sum(outputs) // 2 // repeats)
        else:
            weights[f"{name}.bias"] = values(sum(outputs))
        if part == "head":
            weights[f"{layer}.norm.weight"] = values(inputs[0])
        if layer.endswith(".conv"):
            weights[f"{layer.removesuffix('.conv')}.norm.weight"] = values(inputs[0])
    if config.decoder_fine_stride:
        weights["decoder.fine.norm.weight"] = values(config.decoder_fine_channels)
    dims, latent = config.codebook_dim, config.latent_dim
    for stage in (f"quantizer.stages.{number}" for number in range(config.num_codebooks)):
        if config.bottleneck == "fsq":
            used = min(config.codebook_size.bit_length() - 1, dims)
            weights[f"{stage}.reduce.weight"] = values(used, latent)
            weights[f"{stage}.reduce.bias"] = values(used)
            weights[f"{stage}.expand.weight"] = values(latent, used)
            weights[f"{stage}.expand.bias"] = values(latent)
        else:
            weights[f"{stage}.codebook"] = values(config.codebook_size, dims)
            weights[f"{stage}.project.weight"] = values(latent, dims)
            weights[f"{stage}.project.bias"] = values(latent)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def usable_kernels() -> list[str]:
    """Names of the kernels that this processor has."""
    usable = []
    for name in KERNELS:
        os.environ["AECODEC_KERNEL"] = name
        if library.core().aec_kernel() is not None:
            usable.append(name)
    return usable


def make_network(config: CodecConfig, tensors: dict[str, Any], kernel: str) -> Network:
    os.environ["AECODEC_KERNEL"] = kernel
    return Network(config, tensors)


def try_model(rng: np.random.Generator, kernels: list[str]) -> None:
    """Make a random model, and compare what its kernels and steps compute."""
    config = random_config(rng)
    tensors = quantize(random_weights(config, rng), config)
    networks = [make_network(config, tensors, kernel) for kernel in kernels]
    for kind in SOUNDS:
        _compare(config, networks, kind, rng)
    _refuse(config, tensors)


def _compare(
    config: CodecConfig, networks: list[Network], kind: str, rng: np.random.Generator
) -> None:
    rows, frames = int(rng.choice([1, 2, 3, 33, 40])), int(rng.choice([0, 1, 2, 5, 33, 40]))
    frames = frames if rows * frames < 200 else 2
    hop, count = config.hop_length, int(rng.integers(1, config.num_codebooks + 1))
    audio = rng.standard_normal((rows * config.channels, frames * hop)).astype(np.float32)
    audio *= {"silence": 0, "faint": 1e-38}.get(kind, 10.0 ** rng.integers(-8, 3))
    if kind == "damaged" and audio.size:
        audio.flat[rng.integers(0, audio.size, 6)] = [np.nan, -np.nan, np.inf, -np.inf, 1e38, 9e14]
    codes = rng.integers(-1, config.codebook_size, (rows, count, frames))
    first = networks[0].init_encoder(rows), networks[0].init_decoder(rows)
    if kind == "any state":
        first = tuple(rng.integers(-(2**62), 2**62, each.shape) for each in first)  # type: ignore[assignment]
    results: list[tuple[np.ndarray, ...]] = []
    for each in networks:
        found, errors, latent, encoder = each.analyze(audio, first[0], count)
        heard, decoder = each.decode(codes, first[1])
        assert found.size == 0 or 0 <= found.min() <= found.max() < config.codebook_size
        results.append((found, errors, latent, heard, encoder, decoder))
    if kind == "any state":
        return  # kernels read different parts of what none of them has written
    for result in results[1:]:
        for mine, expected in zip(result, results[0], strict=True):
            assert mine.tobytes() == expected.tobytes(), (config, rows, frames, kind)
    encoder, decoder = (each[-1:] for each in first)
    for frame in range(frames):
        part = slice(frame * hop, (frame + 1) * hop)
        own = audio[-config.channels :, part]
        found, encoder = networks[0].encode(own, encoder, count)
        heard, decoder = networks[0].decode(codes[-1:, :, frame : frame + 1], decoder)
        assert np.array_equal(found[0, :, 0], results[0][0][-1, :, frame]), (config, kind)
        assert np.array_equal(heard, results[0][3][-config.channels :, part])


def _refuse(config: CodecConfig, tensors: dict[str, Any]) -> None:
    """Models with one of their tensors too short."""
    for name, value in tensors.items():
        with suppress(CodecError):
            Network(config, tensors | {name: value.ravel()[1:]})
            raise AssertionError(f"{name} may have any size")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", type=Path, help="default: the library of the checkout")
    parser.add_argument("--models", type=int, default=20, help="default: 20")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.library:
        library.PATH = arguments.library
    rng, kernels = np.random.default_rng(arguments.seed), usable_kernels()
    for _ in range(arguments.models):
        try_model(rng, kernels)
    print(f"{arguments.models} models, kernels {', '.join(kernels)}")


if __name__ == "__main__":
    main()
