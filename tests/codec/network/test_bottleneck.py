"""Behaviour that all residual quantizers share, whatever their stages are."""

from __future__ import annotations

from typing import TypeAlias

import pytest
import torch

from codec.errors import ConfigError
from codec.network.bottleneck import ResidualQuantizer
from codec.network.fsq import ResidualScalarQuantizer
from codec.network.model import Codec
from codec.network.vq import ResidualVectorQuantizer

Kind: TypeAlias = type[ResidualVectorQuantizer] | type[ResidualScalarQuantizer]


@pytest.fixture(params=[ResidualVectorQuantizer, ResidualScalarQuantizer])
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


def make(kind: Kind) -> tuple[ResidualQuantizer, torch.Tensor]:
    """A quantizer initialised from correlated latents, as real ones are, and other such latents."""
    torch.manual_seed(0)
    mixing = torch.randn(12, 12) * torch.linspace(2, 0.1, 12)[:, None]
    quantizer = kind(12, num_codebooks=4, codebook_size=32, codebook_dim=6)
    quantizer.initialize(torch.randn(2000, 12) @ mixing)
    return quantizer, torch.randn(5, 40, 12) @ mixing


def test_more_codebooks_lower_the_error(kind: Kind) -> None:
    quantizer, latent = make(kind)
    errors = []
    for count in range(1, 5):
        decoded = quantizer.decode(quantizer.encode(latent, count))
        errors.append((latent - decoded).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.35 * errors[0] < 0.35 * float(latent.square().mean())


def test_training_and_coding_agree(kind: Kind) -> None:
    quantizer, latent = make(kind)
    quantized = quantizer(latent)
    assert torch.equal(quantized.codes, quantizer.encode(latent))
    torch.testing.assert_close(quantized.latent, quantizer.decode(quantized.codes))


def test_dropout_keeps_the_first_codebooks_of_each_item(kind: Kind) -> None:
    quantizer, latent = make(kind)
    kept = torch.tensor([1, 2, 3, 4, 2])
    quantized = quantizer(latent, kept)
    for item, count in enumerate(kept.tolist()):
        expected = quantizer.decode(quantizer.encode(latent[item : item + 1], count))
        torch.testing.assert_close(quantized.latent[item : item + 1], expected)


def test_each_loss_has_gradients_only_for_what_it_trains(kind: Kind) -> None:
    quantizer, latent = make(kind)
    latent.requires_grad_()
    quantized = quantizer(latent)
    weights = torch.randn_like(latent)
    (straight,) = torch.autograd.grad((quantized.latent * weights).sum(), latent, retain_graph=True)
    assert torch.equal(straight, weights)  # straight through
    books = list(quantizer.parameters())
    for gradient in torch.autograd.grad(quantized.losses["codebook"], books, retain_graph=True):
        assert gradient.isfinite().all() and gradient.any()
    assert not any(
        g is not None and g.any()
        for g in torch.autograd.grad(
            quantized.losses["codebook"], [latent], retain_graph=True, allow_unused=True
        )
    )
    (pull,) = torch.autograd.grad(quantized.losses["commitment"], latent)
    torch.testing.assert_close(pull, 2 * (latent - quantized.latent).detach() / latent.numel())


def test_the_codebook_loss_adapts_the_codebooks_to_other_latents(kind: Kind) -> None:
    """It gains most of what a new initialisation from these latents would gain."""
    quantizer, latent = make(kind)
    shifted = latent * 1.3 + 0.5
    fresh, _ = make(kind)
    fresh.initialize(shifted.flatten(0, 1))
    target = fresh(shifted).losses["codebook"].item()
    optimizer = torch.optim.Adam(quantizer.parameters(), 2e-2)
    losses = []
    for _ in range(80):
        loss = quantizer(shifted).losses["codebook"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] - losses[-1] > 0.8 * (losses[0] - target)


@pytest.mark.parametrize("count", [0, -1, 5])
def test_an_impossible_number_of_codebooks_is_named(kind: Kind, count: int) -> None:
    quantizer, latent = make(kind)
    with pytest.raises(ConfigError, match=f"{count} codebooks asked for: this model has 1 to 4"):
        quantizer.encode(latent, count)
    with pytest.raises(ConfigError, match="codes of 5 codebooks"):
        quantizer.decode(torch.zeros(1, 5, 3, dtype=torch.int64))


def test_latents_are_bounded_in_scale(codec: Codec) -> None:
    """However loud the input: the commitment term cannot run away."""
    for level in (0.0, 1.0, 1e4):
        audio = level * torch.randn(2, 1, 10 * codec.config.hop_length)
        rms = codec.encode_latent(audio).square().mean(-1).sqrt()
        assert rms.isfinite().all() and rms.max() <= 1 + 1e-6
