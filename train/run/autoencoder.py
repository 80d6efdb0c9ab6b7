"""`Autoencoder`: the codec in training, from audio to audio with gradients.

One module with one ``forward``, so that half precision and several devices can wrap it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.network.model import Codec
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
        self, audio: Tensor, *, quantized: bool = True, num_codebooks: Tensor | None = None
    ) -> Reconstruction:
        """Encode, quantize, decode.

        Args:
            audio: ``[B, 1, N]``, whole frames.
            quantized: False passes the latent through unchanged.
            num_codebooks: ``[B]``, number of codebooks of each item; all if None.
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
        decoded = self.codec.decode_latent(self._disturb(decodable), audio.shape[-1]).float()
        # Losses without gradient are dropped.
        losses = {name: loss for name, loss in losses.items() if loss.requires_grad}
        return Reconstruction(decoded, latent.detach(), codes, losses)

    def _disturb(self, latent: Tensor) -> Tensor:
        if self.regularization.latent_noise:
            latent = latent + self.regularization.latent_noise * torch.randn_like(latent)
        if self.regularization.dropout:
            keep = 1 - self.regularization.dropout
            mask = torch.rand(len(latent), 1, latent.shape[-1], device=latent.device) < keep
            latent = latent * mask / keep
        return latent
