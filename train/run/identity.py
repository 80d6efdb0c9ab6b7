"""A transparent start: before any training the network already is a transform codec.

The convolutions of encoder and decoder start by handing the lowest MDCT coefficients through and
the residual units as identities, so that a new model passes sound with its phase right. What is
left to learn is what to change. (From noise, phase takes longest to learn.)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from codec.network.layers import (
    CausalConv1d,
    CausalConvTranspose1d,
    LappedAnalysis,
    LappedSynthesis,
    Layer,
)
from codec.network.model import Codec


@torch.no_grad()
def start_transparent(codec: Codec) -> None:
    """Set the weights of a new codec with a lapped transform so that it passes low frequencies.

    As many coefficients pass as the narrowest layer has room for, frame after
    frame; channels beyond them keep their random start.
    """
    config = codec.config
    room, inner = [config.strides[0]], 1
    for level, stride in enumerate(config.strides):
        inner *= stride if level else 1
        room += [config.encoder_channels[level] // inner, config.decoder_channels[level] // inner]
    bands = min(*room, config.latent_dim // inner)

    encoder = [layer for layer in codec.encoder.body.layers if _changes_rate(layer)]
    decoder = [layer for layer in codec.decoder.body.layers if _changes_rate(layer)]
    front, *downs = encoder
    entry, *ups, back = decoder
    assert isinstance(front, LappedAnalysis)
    assert isinstance(entry, CausalConv1d)
    assert isinstance(back, LappedSynthesis)

    _pass(front.project.weight, range(bands), range(bands))
    width = bands
    for level, down in enumerate(downs, start=1):
        assert isinstance(down, CausalConv1d)
        stride, channels = config.strides[level], config.encoder_channels[level - 1]
        # The last tap of the kernel is the present patch.
        _pass(
            down.linear.weight[:, -down.patch :],
            range(stride * width),
            _frames(stride, channels, width),
            whole=down.linear.weight,
        )
        width *= stride
    _pass(codec.encoder.project.weight, range(width), range(width))

    present = entry.linear.weight[:, -entry.patch :]
    _pass(present, range(width), range(width), whole=entry.linear.weight)
    for level, up in zip(reversed(range(1, len(config.strides))), ups, strict=True):
        assert isinstance(up, CausalConvTranspose1d)
        stride = config.strides[level]
        width //= stride
        rows = _frames(stride, up.out_channels, width)
        now, later = up.linear.weight[: up.patch], up.linear.weight[up.patch :]
        later[rows] = 0
        _pass(now, rows, range(stride * width))
    _pass(back.head.weight, range(bands), range(bands))


def _changes_rate(layer: Layer) -> bool:
    kinds = LappedAnalysis | LappedSynthesis | CausalConv1d | CausalConvTranspose1d
    return isinstance(layer, kinds)


def _frames(stride: int, channels: int, width: int) -> list[int]:
    """Indices of the first ``width`` channels of every frame in a patch."""
    return [frame * channels + channel for frame in range(stride) for channel in range(width)]


def _pass(
    weight: Tensor, outputs: Iterable[int], inputs: Iterable[int], *, whole: Tensor | None = None
) -> None:
    """Make each of ``outputs`` a copy of one of ``inputs`` and of nothing else."""
    rows = list(outputs)
    (weight if whole is None else whole)[rows] = 0
    weight[rows, list(inputs)] = 1
