"""`Autoencoder`: the codec in training, from audio to audio with gradients.

One module with one ``forward``, so that half precision and several devices can wrap it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.network.model import Codec
from train.objective.pitch import pitch_loss, pitch_targets
from train.recipe.sections import RegularizationConfig


class Reconstruction(NamedTuple):
    """Result of one pass through the codec.

    Attributes:
        decoded: ``[B, 1, N]``.
        latent: ``[B, T, D]``, before the bottleneck.
        codes: ``[B, K, T]``; None where nothing was quantized.
        losses: losses of the bottleneck and of the latent, by name.
    """

    decoded: Tensor
    latent: Tensor
    codes: Tensor | None
    losses: dict[str, Tensor]


class Autoencoder(nn.Module):
    """A codec with what only training applies: noise and dropout of latents, frozen parts.

    Args:
        codec: the codec.
        regularization: noise, dropout and sparsity of latents.
        trains_encoder: False for an encoder whose weights are frozen.
    """

    def __init__(
        self, codec: Codec, regularization: RegularizationConfig, *, trains_encoder: bool = True
    ) -> None:
        super().__init__()
        self.codec = codec
        self.regularization = regularization
        self.trains_encoder = trains_encoder

    def forward(
        self,
        audio: Tensor,
        clean: Tensor,
        *,
        quantized: bool = True,
        num_codebooks: Tensor | None = None,
    ) -> Reconstruction:
        """Encode, quantize, decode.

        Args:
            audio: ``[B, 1, N]``, whole frames.
            clean: ``[B, 1, N]``, whose pitch the decoder has to find, if it has an excitation.
            quantized: False passes the latent through unchanged.
            num_codebooks: ``[B]`` or ``[B, T]``, number of codebooks of each item or of each of its
                frames; all if None.
        """
        with torch.set_grad_enabled(self.trains_encoder):
            latent = self.codec.encode_latent(audio).float()
        decodable, codes, losses = latent, None, {}
        if quantized:
            # Half precision would find other nearest neighbours.
            with torch.autocast(audio.device.type, enabled=False):
                decodable, codes, losses = self.codec.quantizer(latent, num_codebooks)
        if self.regularization.sparsity:
            losses = {**losses, "sparsity": latent.abs().mean()}
        with self._pitch_logits() as logits:
            decoded = self.codec.decode_latent(self._disturb(decodable), audio.shape[-1]).float()
        if logits:
            losses = {**losses, "pitch": self._pitch_loss(logits[0], clean)}
        # Losses without gradient are dropped.
        losses = {name: loss for name, loss in losses.items() if loss.requires_grad}
        return Reconstruction(decoded, latent.detach(), codes, losses)

    @contextmanager
    def _pitch_logits(self) -> Iterator[list[Tensor]]:
        """What the pitch head of the decoder returns within the block; nothing if it has none."""
        found: list[Tensor] = []
        fine = self.codec.decoder.fine
        if fine is None:
            yield found
            return
        handle = fine.pitch.register_forward_hook(lambda _, __, output: found.append(output[0]))
        try:
            yield found
        finally:
            handle.remove()

    def _pitch_loss(self, logits: Tensor, clean: Tensor) -> Tensor:
        fine = self.codec.decoder.fine
        assert fine is not None
        # Each pitch is that at the end of a block of the first stage's audio, which is late by all
        # of the delay but that of the second stage.
        ends = (torch.arange(logits.shape[1], device=clean.device) + 1) * fine.block
        centres = ends - (self.codec.delay - fine.stride)
        steps, periodicity = pitch_targets(clean, self.codec.config.sample_rate, centres)
        inside = (centres >= 0) & (centres < clean.shape[-1])
        return pitch_loss(logits[:, inside], steps[:, inside], periodicity[:, inside])

    def _disturb(self, latent: Tensor) -> Tensor:
        if self.regularization.latent_noise:
            latent = latent + self.regularization.latent_noise * torch.randn_like(latent)
        if self.regularization.dropout:
            keep = 1 - self.regularization.dropout
            mask = torch.rand(len(latent), 1, latent.shape[-1], device=latent.device) < keep
            latent = latent * mask / keep
        return latent
