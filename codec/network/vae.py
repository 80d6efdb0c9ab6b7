"""The bottleneck of a variational autoencoder: narrow, continuous latents for generative models.

Kingma and Welling (arXiv:1312.6114): the encoder predicts a Gaussian per frame, training samples
from it, and a KL term keeps it near the standard normal, so that nearby latents sound similar.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codec.network.bottleneck import Bottleneck, Quantized, principal_directions, set_to_best_map
from codec.network.layers import init_linear

# Standard deviations of 0.0025 and 7.4. Only a diverging model exceeds this range.
LOG_VARIANCE_RANGE = (-12.0, 4.0)
# A standard deviation of 0.14, with means of unit variance: little noise for the decoder at first.
INITIAL_LOG_VARIANCE = -4.0


class GaussianBottleneck(Bottleneck):
    """Latent ``[B, T, D]`` -> Gaussians over ``[B, T, E]`` -> latent ``[B, T, D]``, without codes.

    In training the latent is sampled, in evaluation it is the mean.
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
        sampled = mean
        if self.training:
            sampled = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        # arXiv:1312.6114, appendix B; the mean over frames and dimensions.
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        codes = latent.new_zeros(latent.shape[0], 0, latent.shape[1], dtype=torch.int64)
        return Quantized(self.expand(sampled), codes, {"kl": kl})

    def embed(self, latent: Tensor) -> Tensor:
        """``[B, T, D] -> [B, T, E]``: the means."""
        mean: Tensor = self.reduce(latent).chunk(2, dim=-1)[0]
        return mean

    def unembed(self, embedding: Tensor) -> Tensor:
        latent: Tensor = self.expand(embedding)
        return latent

    @torch.no_grad()
    def initialize(self, latent: Tensor, first: int = 0) -> None:
        """Initialise from ``[N, D]``: principal coordinates of unit variance, and the map back."""
        size = self.expand.in_features
        mean, directions = principal_directions(latent)
        directions = directions[:size]
        deviation = ((latent - mean) @ directions.T).square().mean(0).sqrt().clamp(min=1e-6)
        weight, bias = self.reduce.weight, self.reduce.bias
        weight[:size] = directions / deviation[:, None]
        bias[:size] = -weight[:size] @ mean
        weight[size:] = 0
        bias[size:] = INITIAL_LOG_VARIANCE
        set_to_best_map(self.expand, self.embed(latent), latent)
