"""The judges of the adversarial stage: what they must tell apart, and what must not upset them."""

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
    return Discriminators(config)


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


def test_hinge_asks_no_more_of_a_discriminator_that_is_sure() -> None:
    assert discriminator_loss(scored(9.0), scored(-9.0), "hinge") == 0
    assert discriminator_loss(scored(9.0), scored(-9.0), "least_squares") == 8**2 + 9**2


def test_feature_loss_is_relative_to_the_real_features() -> None:
    assert feature_loss(scored(0, 3.0), scored(0, 3.0)) == 0
    for size in (1.0, 50.0):
        halved = feature_loss(scored(0, size), scored(0, size / 2)).item()
        assert halved == pytest.approx(0.5, rel=0.01)


def test_feature_loss_teaches_the_codec_and_not_by_moving_the_real_features() -> None:
    judges, real, decoded = build(), audio().requires_grad_(), audio(seed=1).requires_grad_()
    feature_loss(judges(real), judges(decoded)).backward()  # type: ignore[no-untyped-call]
    assert real.grad is None
    assert decoded.grad is not None and decoded.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_discriminator_learns_to_tell_a_clean_from_a_distorted_sine(kind: str) -> None:
    judges = build()
    optimizer = torch.optim.AdamW(judges.parameters(), lr=3e-3)

    def sines(batch: int) -> Tensor:
        frequency, phase = torch.rand(2, batch, 1, 1)
        angle = (0.01 + 0.1 * frequency) * torch.arange(1_024) + phase
        return 0.3 * torch.sin(2 * torch.pi * angle)

    def judge(batch: int) -> tuple[list[Judgement], list[Judgement]]:
        return judges(sines(batch)), judges(sines(batch).clamp(-0.1, 0.1))

    for _ in range(50):
        loss = discriminator_loss(*judge(8), kind)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        real, distorted = judge(64)
    for clean, clipped in zip(real, distorted):
        means = [each.score.flatten(1).mean(1) for each in (clean, clipped)]
        between = (means[0].mean() + means[1].mean()) / 2
        assert (means[0] > between).double().mean() > 0.75
        assert (means[1] < between).double().mean() > 0.75


@pytest.mark.parametrize("level", [0.0, 1e-7, 1.0, 30.0])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_from_silence_to_beyond_full_scale(level: float, kind: str) -> None:
    judges = build()
    for real, fake in ((level, 1.0), (1.0, level), (level, level)):
        decoded = (audio(seed=1) * fake).requires_grad_()
        a, b = judges(audio() * real), judges(decoded)
        loss = discriminator_loss(a, b, kind) + adversarial_loss(b, kind) + feature_loss(a, b)
        gradients = torch.autograd.grad(loss, [decoded, *judges.parameters()])
        assert loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("num_samples", [1, 7, 255, 256, 257, 1_999, 2_003])
def test_any_length_is_judged(num_samples: int) -> None:
    judges = build(dataclasses.replace(SMALL, periods=(1, 7, 1_000)))
    judgements = judges(audio(num_samples))
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
    assert all(len(judgement.features) == 4 for judgement in judgements)


def test_items_of_a_batch_are_judged_alone() -> None:
    """The score of a recording does not depend on its company, and its items stay in order."""
    judges, batch = build(), audio(1_001)
    for whole, single in zip(judges(batch), judges(batch[1:2])):
        size = len(whole.score) // 3
        torch.testing.assert_close(whole.score[size : 2 * size], single.score)


def test_hidden_layers_start_with_the_variance_that_he_asks_for() -> None:
    torch.manual_seed(0)
    config = AdversarialConfig(channels=64, stft_windows=(512, 128), periods=(2, 5))
    for judgement in Discriminators(config)(torch.randn(1, 1, 12_000)):
        for feature in judgement.features:
            assert 0.2 < feature.square().mean() < 5


def test_weak_frequencies_are_not_drowned_by_loud_ones() -> None:
    """What lies 40 dB below the loudest still moves the spectral judges by a fair share."""
    judges = build(dataclasses.replace(SMALL, periods=()))
    time = torch.arange(4_000)
    loud, weak = (0.5 * torch.sin(time / 20))[None, None], (0.005 * torch.sin(2 * time))[None, None]
    with torch.no_grad():
        change = feature_loss(judges(loud), judges(loud + weak))
    assert change > 0.05


def test_discriminators_survive_a_checkpoint() -> None:
    first, second = build(seed=0), build(seed=1)
    assert not torch.equal(first(audio())[0].score, second(audio())[0].score)
    second.load_state_dict(first.state_dict())
    for a, b in zip(first(audio()), second(audio())):
        assert torch.equal(a.score, b.score)
