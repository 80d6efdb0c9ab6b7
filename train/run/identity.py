"""Identity initialisation: before any training, the network is a simple transform codec.

The convolutions of encoder and decoder are initialised to pass the lowest MDCT coefficients
through, and residual units start as the identity, so that a new model reproduces sound with the
right phase. (From a random initialisation, phase takes longest to learn.)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from codec.network.lapped import LappedAnalysis, SpectrumHead
from codec.network.layers import CausalConv1d, CausalConvTranspose1d, Layer
from codec.network.model import Codec


@torch.no_grad()
def initialize_as_identity(codec: Codec) -> None:
    """Set the weights of a new codec with a lapped transform so that it passes low frequencies.

    The narrowest layer limits the number of coefficients that pass. The remaining channels keep
    their random weights.

    Args:
        codec: changed in place. The bottleneck is not changed.

    Example:
        >>> from train.recipe.loading import load_recipe
        >>> initialize_as_identity(Codec(load_recipe("tiny").model))
    """
    config = codec.config
    limits, inner = [config.strides[0]], 1
    for level, stride in enumerate(config.strides):
        inner *= stride if level else 1
        limits += [config.encoder_channels[level] // inner, config.decoder_channels[level] // inner]
    bands = min(*limits, config.latent_dim // inner)

    encoder = [layer for layer in codec.encoder.body.layers if _is_initialized(layer)]
    decoder = [layer for layer in codec.decoder.body.layers if _is_initialized(layer)]
    first, *downs = encoder
    entry, *ups, head = decoder
    assert isinstance(first, LappedAnalysis)
    assert isinstance(entry, CausalConv1d)
    assert isinstance(head, SpectrumHead)

    _copy(first.project.weight, range(bands), range(bands))
    width = bands
    for level, down in enumerate(downs, start=1):
        assert isinstance(down, CausalConv1d)
        stride, channels = config.strides[level], config.encoder_channels[level - 1]
        # The last tap of the kernel is the newest patch.
        _copy(
            down.linear.weight[:, -down.patch :],
            range(stride * width),
            _frames(stride, channels, width),
            whole=down.linear.weight,
        )
        width *= stride
    _copy(codec.encoder.project.weight, range(width), range(width))

    newest = entry.linear.weight[:, -entry.patch :]
    _copy(newest, range(width), range(width), whole=entry.linear.weight)
    for level, up in zip(reversed(range(1, len(config.strides))), ups, strict=True):
        assert isinstance(up, CausalConvTranspose1d)
        stride = config.strides[level]
        width //= stride
        rows = _frames(stride, up.out_channels, width)
        now, later = up.linear.weight[: up.patch], up.linear.weight[up.patch :]
        later[rows] = 0
        _copy(now, rows, range(stride * width))
    _copy(head.head.weight, range(bands), range(bands))


def _is_initialized(layer: Layer) -> bool:
    kinds = LappedAnalysis | SpectrumHead | CausalConv1d | CausalConvTranspose1d
    return isinstance(layer, kinds)


def _frames(stride: int, channels: int, width: int) -> list[int]:
    """Indices of the first ``width`` channels of every frame in a patch."""
    return [frame * channels + channel for frame in range(stride) for channel in range(width)]


def _copy(
    weight: Tensor, outputs: Iterable[int], inputs: Iterable[int], *, whole: Tensor | None = None
) -> None:
    """Make each of ``outputs`` a copy of one of ``inputs``.

    Args:
        weight: ``[out, in]``, all or some columns of a weight matrix, changed in place.
        outputs: indices of rows.
        inputs: index of a column for each row.
        whole: the weight matrix with all of its columns, if ``weight`` has only some.
    """
    rows = list(outputs)
    (weight if whole is None else whole)[rows] = 0
    weight[rows, list(inputs)] = 1
