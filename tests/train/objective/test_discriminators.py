"""Discriminators: what they must separate, and inputs that must not break them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.conftest import sound
from train.objective.discriminators import (
    Discriminators,
    Judgement,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)
from train.recipe.sections import AdversarialConfig

KINDS = ("hinge", "least_squares")
SMALL = AdversarialConfig(channels=4, stft_windows=(256, 64), periods=(2, 5))


def build(config: AdversarialConfig = SMALL, seed: int = 0) -> Discriminators:
    torch.manual_seed(seed)
    return Discriminators(config.channels, config.stft_windows, config.periods)


def audio(num_samples: int = 2_000, seed: int = 0) -> Tensor:
    return torch.from_numpy(sound(num_samples, 3, seed))[:, None]


def scored(value: float, features: float = 0.0) -> list[Judgement]:
    return [Judgement(torch.full((2, 1, 5), value), [torch.full((2, 4, 5), features)])]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_zero_when_their_side_has_won(kind: str) -> None:
    real, fake = (1.0, -1.0) if kind == "hinge" else (1.0, 0.0)
    assert discriminator_loss(scored(real), scored(fake), kind) == 0
    assert adversarial_loss(scored(real), kind) == 0
    assert discriminator_loss(scored(fake), scored(real), kind) > 1
    assert adversarial_loss(scored(fake), kind) >= 1


def test_hinge_has_no_gradient_for_a_discriminator_that_is_certain() -> None:
    assert discriminator_loss(scored(9.0), scored(-9.0), "hinge") == 0
    assert discriminator_loss(scored(9.0), scored(-9.0), "least_squares") == 8**2 + 9**2


def test_feature_loss_is_relative_to_the_real_features() -> None:
    assert feature_loss(scored(0, 3.0), scored(0, 3.0)) == 0
    for size in (1.0, 50.0):
        halved = feature_loss(scored(0, size), scored(0, size / 2)).item()
        assert halved == pytest.approx(0.5, rel=0.01)


def test_feature_loss_has_a_gradient_for_decoded_audio_only() -> None:
    discriminators, real, decoded = (
        build(),
        audio().requires_grad_(),
        audio(seed=1).requires_grad_(),
    )
    feature_loss(discriminators(real), discriminators(decoded)).backward()
    assert real.grad is None
    assert decoded.grad is not None and decoded.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_discriminator_learns_to_separate_clean_from_distorted_sines(kind: str) -> None:
    discriminators = build()
    optimizer = torch.optim.AdamW(discriminators.parameters(), lr=3e-3)

    def sines(batch: int) -> Tensor:
        frequency, phase = torch.rand(2, batch, 1, 1)
        angle = (0.01 + 0.1 * frequency) * torch.arange(1_024) + phase
        return 0.3 * torch.sin(2 * torch.pi * angle)

    def judgements(batch: int) -> tuple[list[Judgement], list[Judgement]]:
        return discriminators(sines(batch)), discriminators(sines(batch).clamp(-0.1, 0.1))

    for _ in range(50):
        loss = discriminator_loss(*judgements(8), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        real, distorted = judgements(64)
    for clean, clipped in zip(real, distorted):
        means = [each.score.flatten(1).mean(1) for each in (clean, clipped)]
        between = (means[0].mean() + means[1].mean()) / 2
        assert (means[0] > between).double().mean() > 0.75
        assert (means[1] < between).double().mean() > 0.75


@pytest.mark.parametrize("level", [0.0, 1e-7, 1.0, 30.0])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_from_silence_to_beyond_full_scale(level: float, kind: str) -> None:
    discriminators = build()
    for real, fake in ((level, 1.0), (1.0, level), (level, level)):
        decoded = (audio(seed=1) * fake).requires_grad_()
        a, b = discriminators(audio() * real), discriminators(decoded)
        loss = discriminator_loss(a, b, kind) + adversarial_loss(b, kind) + feature_loss(a, b)
        gradients = torch.autograd.grad(loss, [decoded, *discriminators.parameters()])
        assert loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("num_samples", [1, 7, 255, 256, 257, 1_999, 2_003])
def test_any_length_is_scored(num_samples: int) -> None:
    discriminators = build(dataclasses.replace(SMALL, periods=(1, 7, 1_000)))
    judgements = discriminators(audio(num_samples))
    assert len(judgements) == 5
    for judgement in judgements:
        assert judgement.score.numel() and judgement.score.isfinite().all()
        assert all(len(feature) == len(judgement.score) for feature in judgement.features)


@pytest.mark.parametrize(
    ("windows", "periods"),
    [((2048, 1024, 512, 256, 128), (2, 3, 5, 7, 11)), ((100,), ()), ((), (3,)), ((16, 17), (1,))],
)
def test_every_choice_of_scales_gives_one_judgement_each(
    windows: tuple[int, ...], periods: tuple[int, ...]
) -> None:
    config = AdversarialConfig(channels=1, stft_windows=windows, periods=periods)
    judgements = build(config)(audio(2_048))
    assert len(judgements) == len(windows) + len(periods)
    layers = [len(judgement.features) for judgement in judgements]
    assert layers == [4] * len(windows) + [4] * len(periods)


def test_items_of_a_batch_are_scored_independently() -> None:
    """The score of an item does not depend on the others, and items stay in order."""
    discriminators, batch = build(), audio(1_001)
    for whole, single in zip(discriminators(batch), discriminators(batch[1:2])):
        size = len(whole.score) // 3
        torch.testing.assert_close(whole.score[size : 2 * size], single.score)


def test_hidden_layers_are_initialised_to_unit_variance() -> None:
    torch.manual_seed(0)
    for judgement in Discriminators(64, (512, 128), (2, 5))(torch.randn(1, 1, 12_000)):
        for feature in judgement.features:
            assert 0.2 < feature.square().mean() < 5


def test_weak_frequencies_are_not_masked_by_loud_ones() -> None:
    """A tone 40 dB below the loudest still changes the features by a fair share."""
    discriminators = build(dataclasses.replace(SMALL, periods=()))
    time = torch.arange(4_000)
    loud, weak = (0.5 * torch.sin(time / 20))[None, None], (0.005 * torch.sin(2 * time))[None, None]
    with torch.no_grad():
        change = feature_loss(discriminators(loud), discriminators(loud + weak))
    assert change > 0.05


def test_discriminators_survive_a_checkpoint() -> None:
    first, second = build(seed=0), build(seed=1)
    assert not torch.equal(first(audio())[0].score, second(audio())[0].score)
    second.load_state_dict(first.state_dict())
    for a, b in zip(first(audio()), second(audio())):
        assert torch.equal(a.score, b.score)
