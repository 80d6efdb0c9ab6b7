"""Post-training calibration: removes DC from decoded noise.

A decoder fills in what few bits cannot hold, and a network, unlike sound, is not symmetric in sign:
decoded noise had a mean of up to two percent of its level. No loss corrects this, since in short
crops such a mean is smaller than chance. But only the lowest MDCT coefficient carries DC, so there
is just one row of weights to solve for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from codec.network.lapped import SpectrumHead, expand
from codec.network.model import Codec

NOISE_RMS = (0.003, 0.01, 0.03, 0.1, 0.3)
NOISE_FRAMES = 400
ITERATIONS = 4
RIDGE = 1e-3


@torch.no_grad()
def remove_dc(codec: Codec, crops: Tensor) -> None:
    """Remove the mean of decoded noise with the smallest change to a decoder.

    Solves for the row of the decoder's head that predicts the lowest coefficient: among the rows
    with which noise of several levels at several bitrates has no mean, the one that changes the
    coefficient least in ``crops``. Uses Gauss-Newton steps, since coefficients are companded.

    Args:
        codec: changed in place, unless no step reduces the mean. A codec without lapped transform
            is not changed.
        crops: ``[B, 1, N]``, typical audio for the codec.
    """
    head = _spectrum_head(codec)
    if head is None:
        return
    shape = (len(NOISE_RMS), 1, NOISE_FRAMES * codec.config.hop_length)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rms = torch.tensor(NOISE_RMS)
    noise = (noise - noise.mean(-1, keepdim=True)) * rms[:, None, None]
    inputs, gain = _head_inputs(codec, head, noise.to(crops.device))
    typical, _ = _head_inputs(codec, head, crops)

    metric = typical.flatten(0, 1)
    metric = metric.T @ metric / len(metric)
    metric += RIDGE * metric.diagonal().mean() * torch.eye(len(metric))
    scale = rms.double().repeat(len(inputs) // len(rms))[:, None]

    start = torch.cat((head.head.weight[0], head.head.bias[:1])).cpu().double()
    row, best, least = start, start, torch.inf
    for _ in range(ITERATIONS + 1):
        with torch.enable_grad():
            companded = (inputs @ row).requires_grad_()
            coefficient = expand(companded) * gain / scale
            (slope,) = torch.autograd.grad(coefficient.sum(), companded)
        mean = coefficient.detach().mean(1)
        if mean.square().sum() < least:
            best, least = row, float(mean.square().sum())
        # If everything were linear: the row nearest to the first one with a mean of zero.
        change = (slope[..., None] * inputs).mean(1)
        direction = torch.linalg.solve(metric, change.T)
        normal = change @ direction
        normal += RIDGE * normal.diagonal().mean() * torch.eye(len(normal))
        row = start - direction @ torch.linalg.solve(normal, mean - change @ (row - start))
    head.head.weight[0] = best[:-1].to(head.head.weight)
    head.head.bias[0] = best[-1].to(head.head.bias)


def _spectrum_head(codec: Codec) -> SpectrumHead | None:
    heads = [layer for layer in codec.decoder.body.layers if isinstance(layer, SpectrumHead)]
    return heads[0] if heads else None


def _head_inputs(codec: Codec, head: SpectrumHead, audio: Tensor) -> tuple[Tensor, Tensor]:
    """The input of the head and the gain of its lowest coefficient, at several bitrates.

    Returns:
        ``[B, T, C + 1]``, with a constant one for the bias, and ``[B, T]``; the bitrates are
        concatenated along B. In double precision on the CPU.
    """
    config = codec.config
    counts: list[int | None] = [None]
    if config.has_codes:
        counts = [n for n in range(1, config.num_codebooks + 1) if n & (n - 1) == 0]
        counts = [*dict.fromkeys([*counts, config.num_codebooks])]
    inputs: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    try:
        for count in counts:
            codec.synthesize(codec.embed(audio, count))
    finally:
        handle.remove()
    x = torch.cat(inputs)
    gain = head.gains(x)[..., 0]
    return F.pad(x, (0, 1), value=1.0).cpu().double(), gain.cpu().double()
