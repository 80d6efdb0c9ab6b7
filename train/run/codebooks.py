"""`CodebookUpkeep`: the initialisation of codebooks and the restart of dead codes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor

from codec.config import CodecConfig
from codec.network.bottleneck import Bottleneck, Quantizer
from train.recipe.sections import QuantizerConfig
from train.run.devices import gather, share_tensors, total

USAGE_DECAY = 0.98
# A code used less than this share of the average is dead. Speech is not uniform: 0.1 would
# restart codes that are merely rare.
DEAD_BELOW = 0.03

# Latents that codebooks are initialised from: enough per entry for a mean, but capped to fit in
# memory.
LATENTS_PER_ENTRY = 32
MAX_LATENTS = 2**17


class CodebookUpkeep:
    """Counts the use of codes and keeps codebooks alive; one owner of both.

    Args:
        config: when codebooks start and how often dead codes are restarted.
        model: shape of the codebooks.
        restarts: False for a bottleneck without codes and for frozen codebooks.

    Attributes:
        usage: decayed counts of each code's use, ``[K, codebook_size]``.
        pretrained: the run starts from a trained model.
        num_pretrained: number of codebooks that are those of the trained model; the others are
            initialised.
    """

    def __init__(self, config: QuantizerConfig, model: CodecConfig, *, restarts: bool) -> None:
        self.usage = torch.ones(model.num_codebooks, model.codebook_size)
        self.pretrained, self.num_pretrained = False, 0
        self._num_codebooks = model.num_codebooks if model.has_codes else 0
        self._config, self._codebook_size, self._restarts = config, model.codebook_size, restarts

    def quantizes(self, step: int) -> bool:
        """Whether latents are quantized in this step."""
        return self.pretrained or step >= self._config.start_step

    def starts(self, step: int) -> bool:
        """Whether codebooks have to be initialised before this step."""
        if self.pretrained:
            return step == 0 and self.num_pretrained < self._num_codebooks
        return step == self._config.start_step

    @torch.no_grad()
    def initialize(
        self, quantizer: Bottleneck, draw_latents: Callable[[], Tensor], fabric: Fabric
    ) -> None:
        """Initialise the quantizer from the latents of a few batches, the same in all processes.

        Args:
            quantizer: changed in place.
            draw_latents: returns the latents of a random batch, ``[B, T, D]``.
            fabric: the processes of the run.
        """
        latents: list[Tensor] = []
        wanted = min(LATENTS_PER_ENTRY * self._codebook_size, MAX_LATENTS)
        while wanted > 0:
            latent = gather(fabric, draw_latents())
            latents.append(latent.reshape(-1, latent.shape[-1]))
            wanted -= len(latents[-1])
        quantizer.initialize(torch.cat(latents), self.num_pretrained)
        share_tensors(fabric, list(quantizer.parameters()))

    @torch.no_grad()
    def update(
        self,
        quantizer: Bottleneck,
        latent: Tensor,
        codes: Tensor | None,
        *,
        step: int,
        progress: float,
        fabric: Fabric,
    ) -> None:
        """Count the codes of a batch; at regular steps replace dead codes by latents of the batch.

        Args:
            quantizer: changed in place.
            latent: ``[B, T, D]``, before quantization.
            codes: ``[B, K, T]``; None where latents were not quantized.
            step: steps done.
            progress: share of the run that is done.
            fabric: the processes of the run.
        """
        if codes is None or not self._restarts or progress >= self._config.restart_until:
            return
        assert isinstance(quantizer, Quantizer)
        histogram = total(fabric, count_codes(codes, self._codebook_size))
        self.usage.mul_(USAGE_DECAY).add_(histogram, alpha=1 - USAGE_DECAY)
        if step % self._config.restart_every == 0:
            average = self.usage.mean(dim=1, keepdim=True)
            dead = self.usage < DEAD_BELOW * average
            quantizer.restart(latent, dead)
            share_tensors(fabric, list(quantizer.parameters()))
            # A restarted code gets the average count, so that it has time to find its place.
            self.usage = torch.where(dead, average, self.usage)


def count_codes(codes: Tensor, codebook_size: int) -> Tensor:
    """How often each entry occurs in codes ``[B, K, T]``: ``[K, codebook_size]``, on their device.

    Example:
        >>> count_codes(torch.tensor([[[0, 1, 1]]]), codebook_size=4)
        tensor([[1., 2., 0., 0.]])
    """
    flat = codes.transpose(0, 1).flatten(1)
    counts = flat.new_zeros((len(flat), codebook_size)).float()
    return counts.scatter_add_(1, flat, flat.new_ones(flat.shape).float())
