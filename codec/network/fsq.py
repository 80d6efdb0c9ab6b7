"""Residual finite scalar quantization: latent <-> codes without learned codebooks.

FSQ (arXiv:2309.15505): a few dimensions are bounded, each is rounded to one of its levels, and the
code is the index of the cell. There is no search for entries, and no code can die. Instead of
entries a stage learns two affine maps, to the few dimensions and back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.network.bottleneck import Coder, ResidualQuantizer, principal_directions, set_to_best_map
from codec.network.layers import init_linear

# Candidates for the standard deviation before the bound, at initialisation. For a Gaussian 0.55 is
# best with 4 levels, 0.45 with 8, 0.35 with 16, and less with more. With 2 levels all are equally
# good, and the first is used: with it, bounded and rounded values have about the same size.
INITIAL_SCALES = (0.55, 0.45, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1)


class ScalarQuantizer(nn.Module):
    """One stage: project to a few dimensions, round there, and project back.

    The bits of a code are distributed over the dimensions as evenly as possible; with fewer bits
    than dimensions, the surplus dimensions are not used. Levels are spaced evenly and symmetrically
    in (-1, 1), so that one bit is a sign. The size of a codebook is a power of two.
    """

    half_levels: Tensor
    top_level: Tensor
    shifts: Tensor

    def __init__(self, latent_dim: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        bits = _bits_per_dimension(codebook_size.bit_length() - 1, codebook_dim)
        self.reduce = nn.Linear(latent_dim, len(bits))
        self.expand = nn.Linear(len(bits), latent_dim)
        init_linear(self.reduce, fan_in=latent_dim, before="none")
        init_linear(self.expand, fan_in=len(bits), before="none")
        self.register_buffer("half_levels", 2.0 ** (bits - 1), persistent=False)
        self.register_buffer("top_level", 2**bits - 1, persistent=False)
        self.register_buffer("shifts", bits.cumsum(0) - bits, persistent=False)

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., D]`` -> codes ``[...]`` and their values ``[..., D]``.

        The values have gradients for both maps, straight through the rounding.
        """
        bounded = torch.tanh(self.reduce(residual))
        levels = self._levels(bounded)
        rounded = self._rounded(levels)
        if bounded.requires_grad:  # in a streaming step every operation counts
            rounded = rounded + (bounded - bounded.detach())
        return torch.bitwise_left_shift(levels, self.shifts).sum(-1), self.expand(rounded)

    def rounded(self, codes: Tensor) -> Tensor:
        """Codes ``[...]`` -> rounded values ``[..., d]``, before the map back."""
        levels = torch.bitwise_right_shift(codes[..., None], self.shifts)
        return self._rounded(torch.bitwise_and(levels, self.top_level))

    @torch.no_grad()
    def initialize(self, residual: Tensor) -> None:
        """Initialise from ``[N, D]``: scaled principal directions, and the map back."""
        mean, directions = principal_directions(residual)
        directions = directions[: len(self.shifts)]
        coordinates = (residual - mean) @ directions.T
        deviation = coordinates.square().mean(0).sqrt().clamp(min=1e-6)
        explained = []
        for scale in INITIAL_SCALES:
            rounded = self._rounded(self._levels(torch.tanh(coordinates * (scale / deviation))))
            power = rounded.square().mean(0)
            explained.append((rounded * coordinates).mean(0).square() / power)
        scales = coordinates.new_tensor(INITIAL_SCALES)[torch.stack(explained).argmax(0)]
        self.reduce.weight.copy_(directions * (scales / deviation)[:, None])
        self.reduce.bias.copy_(-self.reduce.weight @ mean)
        rounded = self._rounded(self._levels(torch.tanh(self.reduce(residual))))
        set_to_best_map(self.expand, rounded, residual)

    def _levels(self, bounded: Tensor) -> Tensor:
        """Values in [-1, 1] -> levels 0 to ``top_level``. NaN becomes some valid level, too."""
        levels = ((bounded + 1) * self.half_levels).long()
        return levels.clamp(min=0).minimum(self.top_level)

    def _rounded(self, levels: Tensor) -> Tensor:
        return (levels + 0.5) / self.half_levels - 1


class ResidualScalarQuantizer(ResidualQuantizer):
    """A sequence of scalar quantizers, each in ``codebook_dim`` dimensions at most."""

    stages: Sequence[ScalarQuantizer]

    def __init__(
        self, latent_dim: int, num_codebooks: int, codebook_size: int, codebook_dim: int
    ) -> None:
        super().__init__(
            ScalarQuantizer(latent_dim, codebook_size, codebook_dim) for _ in range(num_codebooks)
        )

    def coders(self) -> Sequence[Coder]:
        return list(self.stages)

    def learn(self, codes: Tensor, residuals: Tensor) -> Tensor:
        pairs = zip(self.stages, residuals, strict=True)
        return torch.stack([stage(residual)[1] for stage, residual in pairs])

    def _values(self, codes: Tensor) -> Tensor:
        stages = list(self.stages)[: codes.shape[1]]
        # The sum of the stages' maps is one map of their concatenated values.
        rounded = stages[0].rounded(codes.mT).flatten(-2)  # [B, T, K * d]
        weight = torch.cat([stage.expand.weight for stage in stages], dim=1)
        bias = torch.stack([stage.expand.bias for stage in stages]).sum(0)
        return F.linear(rounded, weight, bias)

    def decode_present(self, codes: Tensor) -> Tensor:
        present = (codes.mT >= 0).to(self.stages[0].expand.weight.dtype)  # [B, T, K]
        rounded = self.stages[0].rounded(codes.mT.clamp(min=0)) * present[..., None]
        weight = torch.cat([stage.expand.weight for stage in self.stages], dim=1)
        biases = torch.stack([stage.expand.bias for stage in self.stages])
        return F.linear(rounded.flatten(-2), weight) + present @ biases

    @torch.no_grad()
    def initialize(self, latent: Tensor, first: int = 0) -> None:
        """Initialise stage by stage, each from the residual ``[N, D]`` of the stages before it."""
        residual = latent
        for index, stage in enumerate(self.stages):
            if index >= first:
                stage.initialize(residual)
            residual = residual - stage(residual)[1]


def _bits_per_dimension(num_bits: int, num_dims: int) -> Tensor:
    """Bits of each dimension; the first ones, which have the most variance, get the remainder."""
    dims = torch.arange(min(num_bits, num_dims))
    return num_bits // len(dims) + (dims < num_bits % len(dims)).long()
