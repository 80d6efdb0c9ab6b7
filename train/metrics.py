"""Measures that steer training. The full set, with PESQ and STOI, is in ``benchmarks/``."""

from __future__ import annotations

import torch
from torch import Tensor


def si_sdr(decoded: Tensor, original: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., arXiv:1811.02508).

    Args:
        decoded: audio of any shape; its mean is removed first.
        original: audio of the same shape; likewise.
    """
    decoded = (decoded - decoded.mean()).flatten().double()
    original = (original - original.mean()).flatten().double()
    scale = (decoded @ original) / original.square().sum().clamp(min=1e-12)
    target = scale * original
    noise = (decoded - target).square().sum()
    ratio = target.square().sum().clamp(min=1e-12) / noise.clamp(min=1e-12)
    return float(10 * torch.log10(ratio))


def code_histogram(codes: Tensor, codebook_size: int) -> Tensor:
    """How often each entry occurs: codes ``[B, K, T]`` -> counts ``[K, codebook_size]``."""
    flat = codes.transpose(0, 1).flatten(1)
    counts = torch.zeros(len(flat), codebook_size)
    return counts.scatter_add_(1, flat, torch.ones(flat.shape))


def perplexity(histogram: Tensor) -> Tensor:
    """Entries in effective use, per codebook: two to the power of the entropy in bits."""
    share = histogram / histogram.sum(-1, keepdim=True).clamp(min=1e-9)
    return torch.exp(-torch.xlogy(share, share).sum(-1))
