"""The bottleneck of a variational autoencoder: narrow, continuous latents, for generative models.

Kingma and Welling (arXiv:1312.6114): the encoder names a Gaussian per frame, training draws from
it, and a KL term keeps it near the standard one, so that nearby latents sound alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codec.bitrate import NO_CODES
from codec.errors import ConfigError
from codec.network.bottleneck import Bottleneck, Quantized, principal_directions, set_to_best_map
from codec.network.layers import init_linear

# Only a diverging model leaves these: deviations of .0025 and 7.4.
LOG_VARIANCE_RANGE = (-12.0, 4.0)
# A deviation of .14 beside means of unit variance: hardly any noise for the decoder to fight.
START_LOG_VARIANCE = -4.0


class GaussianBottleneck(Bottleneck):
    """Latent ``[B, T, D]`` -> means and deviations ``[B, T, E]`` -> latent ``[B, T, D]``.

    In training the latent is drawn, in evaluation it is the mean. There are no codes.
    """

    def __init__(self, latent_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(latent_dim, 2 * embedding_dim)
        self.expand = nn.Linear(embedding_dim, latent_dim)
        init_linear(self.reduce, fan_in=latent_dim, before="none")
        init_linear(self.expand, fan_in=embedding_dim, before="none")

    def forward(self, latent: Tensor, num_codebooks: Tensor | None = None) -> Quantized:
        mean, log_variance = self.reduce(latent).chunk(2, dim=-1)
        log_variance = log_variance.clamp(*LOG_VARIANCE_RANGE)
        drawn = mean
        if self.training:
            drawn = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        # arXiv:1312.6114, appendix B, per frame and dimension.
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        codes = latent.new_zeros(latent.shape[0], 0, latent.shape[1], dtype=torch.int64)
        return Quantized(self.expand(drawn), codes, {"kl": kl})

    def encode(self, latent: Tensor, num_codebooks: int | None = None) -> Tensor:
        raise ConfigError(NO_CODES)

    def decode(self, codes: Tensor) -> Tensor:
        raise ConfigError(NO_CODES)

    def embed(self, latent: Tensor) -> Tensor:
        """``[B, T, D] -> [B, T, E]``: the means."""
        mean: Tensor = self.reduce(latent).chunk(2, dim=-1)[0]
        return mean

    def unembed(self, embedding: Tensor) -> Tensor:
        latent: Tensor = self.expand(embedding)
        return latent

    @torch.no_grad()
    def initialize(self, latent: Tensor) -> None:
        """Start from ``[N, D]``: principal coordinates of unit variance, and the map back."""
        size = self.expand.in_features
        mean, directions = principal_directions(latent)
        directions = directions[:size]
        deviation = ((latent - mean) @ directions.T).square().mean(0).sqrt().clamp(min=1e-6)
        weight, bias = self.reduce.weight, self.reduce.bias
        weight[:size] = directions / deviation[:, None]
        bias[:size] = -weight[:size] @ mean
        weight[size:] = 0
        bias[size:] = START_LOG_VARIANCE
        set_to_best_map(self.expand, self.embed(latent), latent)
