"""What can stand between encoder and decoder: one interface, and the loop that quantizers share.

The loop is that of SoundStream (arXiv:2107.03312), Algorithm 1: each stage codes what the ones
before it left over, so the first codes are a stream of a lower bitrate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from codec.errors import ConfigError


class Quantized(NamedTuple):
    """What a bottleneck makes of a latent in training.

    Attributes:
        latent: ``[B, T, D]``, as the decoder gets it; its gradient reaches the input latent.
        codes: ``[B, K, T]`` int64; K is 0 where latents stay continuous.
        losses: scalars by name, unweighted. Quantizers have ``codebook``, which pulls what codes
            stand for towards the latents, and ``commitment``, which pulls latents towards what
            stands for them; the VAE has ``kl``.
    """

    latent: Tensor
    codes: Tensor
    losses: dict[str, Tensor]


class Bottleneck(nn.Module, ABC):
    """Latent ``[B, T, D]`` in, a narrower form of it out, and back. Every frame for itself."""

    @abstractmethod
    def forward(self, latent: Tensor, num_codebooks: Tensor | None = None) -> Quantized:
        """Pass a latent through, in training.

        Args:
            latent: ``[B, T, D]``.
            num_codebooks: ``[B]``, how many codebooks each item of the batch keeps (quantizer
                dropout, SoundStream section III-C); all if None.
        """

    @abstractmethod
    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """``[B, T, D] -> [B, K, T]`` int64, with K = ``num_codebooks`` or all.

        Raises:
            ConfigError: there are not as many codebooks, or none at all.
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """``[B, K, T]`` codes of the first K codebooks ``-> [B, T, D]``.

        Raises:
            ConfigError: there are not as many codebooks, or none at all.
        """

    @abstractmethod
    def initialize(self, latent: Tensor) -> None:
        """Start from latents ``[N, D]``, several times as many as a codebook has entries."""

    def restart(self, latent: Tensor, is_dead: Tensor) -> None:
        """Move dead codes to where a batch of latents needs them, if they can be moved.

        Args:
            latent: ``[B, T, D]``, of the current batch.
            is_dead: ``[K, codebook_size]`` booleans.
        """

    def embed(self, latent: Tensor) -> Tensor:
        """``[B, T, D] -> [B, T, E]``: what other tasks should see of an encoder's latent."""
        return latent

    def unembed(self, embedding: Tensor) -> Tensor:
        """``[B, T, E] -> [B, T, D]``: back to what the decoder takes."""
        return embedding


Coder: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A stage at work: residual ``[..., D]`` -> its codes ``[...]`` and their values ``[..., D]``."""


class ResidualQuantizer(Bottleneck):
    """A cascade of quantizers, each coding what the ones before it left over.

    The number of codebooks in use is an argument or the shape of the codes, never a mode.
    """

    stages: Sequence[nn.Module]

    @abstractmethod
    def coders(self) -> Sequence[Coder]:
        """The stages at work, with the weights as they are now."""

    @abstractmethod
    def learn(self, codes: Tensor, residuals: Tensor) -> Tensor:
        """What codes ``[K, B, T]`` stand for, stage by stage, with gradients for their weights.

        Args:
            codes: of all stages.
            residuals: ``[K, B, T, D]``, what each stage coded.

        Returns:
            ``[K, B, T, D]``.
        """

    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        num_codebooks = len(self.stages) if num_codebooks is None else num_codebooks
        if not 1 <= num_codebooks <= len(self.stages):
            raise ConfigError(
                f"{num_codebooks} codebooks asked for: this model has 1 to {len(self.stages)}"
            )
        residual, codes = latent, []
        for coder in self.coders()[:num_codebooks]:
            code, quantized = coder(residual)
            codes.append(code)
            residual = residual - quantized
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        if not 1 <= codes.shape[1] <= len(self.stages):
            raise ConfigError(
                f"codes of {codes.shape[1]} codebooks: this model has 1 to {len(self.stages)}"
            )
        return self._values(codes)

    @abstractmethod
    def _values(self, codes: Tensor) -> Tensor:
        """`decode`, for a number of codebooks that has been checked."""

    def forward(self, latent: Tensor, num_codebooks: Tensor | None = None) -> Quantized:
        residual, residuals, codes = latent.detach(), [], []
        with torch.no_grad():
            for coder in self.coders():
                code, quantized = coder(residual)
                codes.append(code)
                residuals.append(residual)
                residual = residual - quantized
        # What is learned, is learned for all stages at once: each is a small matter.
        targets, numbers = torch.stack(residuals), torch.stack(codes)
        values = self.learn(numbers, targets)
        kept = latent.new_ones(len(codes), len(latent))
        if num_codebooks is not None:
            stage = torch.arange(len(codes), device=latent.device)[:, None]
            kept = (num_codebooks > stage).to(latent)
        distances = (targets - values).square().mean((2, 3))  # [K, B]
        codebook_loss = ((distances * kept).sum(1) / kept.sum(1).clamp(min=1)).sum()
        total = (values.detach() * kept[:, :, None, None]).sum(0)
        losses = {"codebook": codebook_loss, "commitment": (latent - total).square().mean()}
        straight_through = total + (latent - latent.detach())
        return Quantized(straight_through, numbers.transpose(0, 1), losses)


def principal_directions(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[D]`` of vectors ``[N, D]``, and their principal directions, one a row."""
    mean = vectors.mean(0)
    centred = vectors - mean
    # Of the covariance, which is small: an SVD of all vectors takes 25 times as long.
    _, directions = torch.linalg.eigh((centred.T @ centred).cpu().double())
    return mean, directions.flip(1).T.to(vectors)


def set_to_best_map(linear: nn.Linear, inputs: Tensor, targets: Tensor) -> None:
    """Make ``linear`` the map from ``[N, d]`` that comes nearest to targets ``[N, D]``."""
    mean, target_mean = inputs.mean(0), targets.mean(0)
    # By the normal equations: torch.linalg.lstsq differs in the last bit from run to run.
    centred = inputs - mean
    gram = torch.linalg.pinv((centred.T @ centred).cpu().double(), hermitian=True)
    solution = gram.to(inputs) @ (centred.T @ (targets - target_mean))
    linear.weight.copy_(solution.T)
    linear.bias.copy_(target_mean - mean @ solution)
