"""Interfaces between encoder and decoder, and the loop that residual quantizers share.

    Bottleneck               latent -> latent, narrower in between
      GaussianBottleneck     the bottleneck of a VAE (`codec.network.vae`)
      Quantizer              adds codes
        ResidualQuantizer    a sequence of stages (SoundStream, arXiv:2107.03312, Algorithm 1)

Each stage of a residual quantizer codes the residual of the stages before it, so the codes of the
first stages are a stream of a lower bitrate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn

from codec.errors import ConfigError


class Quantized(NamedTuple):
    """Output of a bottleneck in training.

    Quantizers have a loss ``codebook``, which pulls the values of codes towards the latents, and
    ``commitment``, which pulls latents towards the values of their codes; the VAE has ``kl``.
    """

    latent: Tensor  # [B, T, D], the input of the decoder; its gradient reaches the input latent
    codes: Tensor  # [B, K, T] int64; K is 0 where latents stay continuous
    losses: dict[str, Tensor]  # scalars by name, unweighted


class Bottleneck(nn.Module, ABC):
    """Latent ``[B, T, D]`` to a narrower form of it and back, frame-wise (memoryless)."""

    @abstractmethod
    def forward(self, latent: Tensor, num_codebooks: Tensor | None = None) -> Quantized:
        """Pass a latent ``[B, T, D]`` through, in training.

        Each item of the batch keeps so many codebooks ``[B]`` (quantizer dropout, SoundStream
        section III-C), or each frame ``[B, T]``; all if None.
        """

    @abstractmethod
    def initialize(self, latent: Tensor, first: int = 0) -> None:
        """Initialise the weights from latents ``[N, D]``, several times as many as entries.

        The ``first`` stages of a residual quantizer stay as they are.
        """

    def embed(self, latent: Tensor) -> Tensor:
        """``[B, T, D] -> [B, T, E]``: the encoder's output in the form meant for other tasks."""
        return latent

    def unembed(self, embedding: Tensor) -> Tensor:
        """``[B, T, E] -> [B, T, D]``: the input of the decoder for an embedding."""
        return embedding


class Quantizer(Bottleneck):
    """A bottleneck with codes."""

    @abstractmethod
    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        """``[B, T, D] -> [B, K, T]`` int64, with K = ``num_codebooks``, or all if None.

        Raises:
            ConfigError: ``num_codebooks`` is out of range.
        """

    @abstractmethod
    def encode_with_errors(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, D]`` -> codes ``[B, K, T]`` of all codebooks, and what each leaves uncoded.

        Those are mean squares ``[B, K, T]`` of the latent less the values of the codes so far.
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """``[B, K, T]`` codes of the first K codebooks ``-> [B, T, D]``.

        Raises:
            ConfigError: there are more codebooks than the quantizer has, or none.
        """

    @abstractmethod
    def decode_present(self, codes: Tensor) -> Tensor:
        """`decode` of ``[B, K, T]`` of all codebooks, with -1 where a code is absent.

        A frame without codes becomes a latent of zero. Exported graphs use it: the number of
        codebooks may differ between the items of a batch.
        """

    def restart(self, latent: Tensor, is_dead: Tensor) -> None:
        """Move dead codes ``[K, codebook_size]`` to where ``[B, T, D]`` needs them, if it can."""


Coder: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A stage as a function: residual ``[..., D]`` -> codes ``[...]`` and their values ``[..., D]``."""


class ResidualQuantizer(Quantizer):
    """A sequence of stages, each coding the residual of the stages before it.

    The number of codebooks in use is an argument or the shape of the codes, never a mode.
    """

    stages: Sequence[nn.Module]

    def __init__(self, stages: Iterable[nn.Module]) -> None:
        super().__init__()
        self.stages = cast("Sequence[nn.Module]", nn.ModuleList(stages))

    @abstractmethod
    def coders(self) -> Sequence[Coder]:
        """The stages as functions, with their current weights."""

    @abstractmethod
    def learn(self, codes: Tensor, residuals: Tensor) -> Tensor:
        """The values ``[K, B, T, D]`` of codes, with gradients for the weights of the stages.

        Args:
            codes: ``[K, B, T]``, of all stages.
            residuals: ``[K, B, T, D]``, the input of each stage.
        """

    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        num_codebooks = len(self.stages) if num_codebooks is None else num_codebooks
        if not 1 <= num_codebooks <= len(self.stages):
            raise ConfigError(
                f"{num_codebooks} codebooks asked for: this model has 1 to {len(self.stages)}"
            )
        return torch.stack([code for _, code, _ in self._code(latent, num_codebooks)], dim=1)

    def encode_with_errors(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        coded = [(code, rest.square().mean(-1)) for _, code, rest in self._code(latent)]
        codes, errors = zip(*coded, strict=True)
        return torch.stack(codes, dim=1), torch.stack(errors, dim=1)

    def _code(
        self, latent: Tensor, num_codebooks: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Stage by stage: its input, its codes, and what they leave uncoded."""
        residual = latent
        for coder in self.coders()[:num_codebooks]:
            code, quantized = coder(residual)
            rest = residual - quantized
            yield residual, code, rest
            residual = rest

    def decode(self, codes: Tensor) -> Tensor:
        if not 1 <= codes.shape[1] <= len(self.stages):
            raise ConfigError(
                f"codes of {codes.shape[1]} codebooks: this model has 1 to {len(self.stages)}"
            )
        return self._values(codes)

    @abstractmethod
    def _values(self, codes: Tensor) -> Tensor:
        """`decode` for a valid number of codebooks."""

    def forward(self, latent: Tensor, num_codebooks: Tensor | None = None) -> Quantized:
        with torch.no_grad():
            residuals, codes, _ = zip(*self._code(latent.detach()), strict=True)
        # All stages at once: one stage alone is too small to be fast.
        targets, numbers = torch.stack(residuals), torch.stack(codes)
        values = self.learn(numbers, targets)
        kept = latent.new_ones(len(codes), len(latent), 1)  # [K, B, 1 or T]
        if num_codebooks is not None:
            stage = torch.arange(len(codes), device=latent.device)[:, None, None]
            kept = (num_codebooks.reshape(len(latent), -1) > stage).to(latent)
        distances = (targets - values).square().mean(3)  # [K, B, T]
        weights = kept.expand_as(distances)
        codebook_loss = ((distances * weights).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1)).sum()
        total = (values.detach() * kept[..., None]).sum(0)
        losses = {"codebook": codebook_loss, "commitment": (latent - total).square().mean()}
        straight_through = total + (latent - latent.detach())
        return Quantized(straight_through, numbers.transpose(0, 1), losses)


def principal_directions(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[D]`` of vectors ``[N, D]`` and their principal directions ``[D, D]``, one per row."""
    mean = vectors.mean(0)
    centred = vectors - mean
    # Eigenvectors of the small covariance matrix: an SVD of all vectors takes 25 times as long.
    _, directions = torch.linalg.eigh((centred.T @ centred).cpu().double())
    return mean, directions.flip(1).T.to(vectors)


def set_to_best_map(linear: nn.Linear, inputs: Tensor, targets: Tensor) -> None:
    """Set ``linear`` to the least-squares map from inputs ``[N, d]`` to targets ``[N, D]``."""
    mean, target_mean = inputs.mean(0), targets.mean(0)
    # Normal equations, since torch.linalg.lstsq differs in the last bit from run to run.
    centred = inputs - mean
    gram = torch.linalg.pinv((centred.T @ centred).cpu().double(), hermitian=True)
    solution = gram.to(inputs) @ (centred.T @ (targets - target_mean))
    linear.weight.copy_(solution.T)
    linear.bias.copy_(target_mean - mean @ solution)
