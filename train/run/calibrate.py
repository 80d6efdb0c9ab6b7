"""What is set after training and not by it: decoded noise gets no DC.

What few bits cannot say a decoder makes up, and a network, unlike sound, does not treat plus and
minus alike: noise came back with a mean of up to two percent of its level. No loss mends that,
since in short crops such a mean is lost in chance. But in an MDCT the lowest coefficient alone
carries DC, so that there is one row of weights to solve for.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.network.layers import LappedSynthesis, expand
from codec.network.model import Codec

NOISE_RMS = (0.003, 0.01, 0.03, 0.1, 0.3)
NOISE_FRAMES = 400
ITERATIONS = 4
RIDGE = 1e-3


@torch.no_grad()
def remove_dc(codec: Codec, crops: Tensor) -> None:
    """Change a decoder as little as it takes for decoded noise to have no mean.

    Solves for the row of the decoder's head that predicts the lowest coefficient: of those with
    which noise of several levels at several bitrates has no mean, the one that changes the
    coefficient least in ``crops``. By Gauss-Newton steps, since coefficients are companded.

    Args:
        codec: changed in place, unless that makes nothing better. A codec without lapped transform
            stays as it is.
        crops: ``[B, 1, N]``, what the codec is for.
    """
    layer = codec.decoder.body.layers[-1]
    if not isinstance(layer, LappedSynthesis):
        return
    shape = (len(NOISE_RMS), 1, NOISE_FRAMES * codec.config.hop_length)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rms = torch.tensor(NOISE_RMS)
    noise = (noise - noise.mean(-1, keepdim=True)) * rms[:, None, None]
    made_up, gain = _head_inputs(codec, noise.to(crops.device))
    heard, _ = _head_inputs(codec, crops)

    metric = heard.flatten(0, 1)
    metric = metric.T @ metric / len(metric)
    metric += RIDGE * metric.diagonal().mean() * torch.eye(len(metric))
    scale = rms.double().repeat(len(made_up) // len(rms))[:, None]

    start = torch.cat((layer.head.weight[0], layer.head.bias[:1])).cpu().double()
    row, best, least = start, start, torch.inf
    for _ in range(ITERATIONS + 1):
        with torch.enable_grad():
            companded = (made_up @ row).requires_grad_()
            coefficient = expand(companded) * gain / scale
            (slope,) = torch.autograd.grad(coefficient.sum(), companded)
        mean = coefficient.detach().mean(1)
        if mean.square().sum() < least:
            best, least = row, float(mean.square().sum())
        # The nearest row to the first with a mean of zero, were everything linear.
        change = (slope[..., None] * made_up).mean(1)
        spread = torch.linalg.solve(metric, change.T)
        normal = change @ spread
        normal += RIDGE * normal.diagonal().mean() * torch.eye(len(normal))
        row = start - spread @ torch.linalg.solve(normal, mean - change @ (row - start))
    layer.head.weight[0] = best[:-1].to(layer.head.weight)
    layer.head.bias[0] = best[-1].to(layer.head.bias)


def _head_inputs(codec: Codec, audio: Tensor) -> tuple[Tensor, Tensor]:
    """What the head hears and the gain of its lowest coefficient, at several bitrates.

    Returns:
        ``[B, T, C + 1]``, with a one for the bias, and ``[B, T]``; one bitrate after the other, in
        double precision on the CPU.
    """
    layer = cast("LappedSynthesis", codec.decoder.body.layers[-1])
    config = codec.config
    counts: list[int | None] = [None]
    if config.has_codes:
        counts = [n for n in range(1, config.num_codebooks + 1) if n & (n - 1) == 0]
        counts = [*dict.fromkeys([*counts, config.num_codebooks])]
    heard: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    try:
        for count in counts:
            codec.synthesize(codec.embed(audio, count))
    finally:
        handle.remove()
    x = torch.cat(heard)
    gain = layer.gains(x)[..., 0]
    return F.pad(x, (0, 1), value=1.0).cpu().double(), gain.cpu().double()
