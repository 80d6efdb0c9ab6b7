"""Weights as shares of the gradient, whatever the scale of a loss."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from train.objective.balancer import Balancer, audio_gradients, combine, gradient_shares
from train.run.step import MAX_ITEM_GRADIENT, clip_item_gradients

WEIGHTS = {"loud": 1.0, "soft": 3.0}


def draw(seed: int) -> dict[str, Tensor]:
    """Gradients of two losses, one nine orders of magnitude above the other."""
    generator = torch.Generator().manual_seed(seed)
    loud, soft = torch.randn(2, 4, 1, 500, generator=generator)
    return {"loud": 1e6 * loud, "soft": 1e-3 * soft}


def test_losses_of_very_different_scales_get_the_requested_shares() -> None:
    balancer = Balancer(WEIGHTS)
    for seed in range(5):
        gradients = draw(seed)
        factors = balancer.factors(gradients)
    shares = gradient_shares(gradients, factors)
    assert shares == pytest.approx({"loud": 0.25, "soft": 0.75}, abs=0.02)
    assert gradient_shares(gradients, WEIGHTS)["soft"] < 1e-6
    combined = combine(gradients, factors)
    parts = {name: factors[name] * value for name, value in gradients.items()}
    torch.testing.assert_close(combined, parts["loud"] + parts["soft"])
    assert parts["soft"].norm() == pytest.approx(0.75, abs=0.02)


def test_norms_are_averaged_over_steps() -> None:
    """A gradient above the average stays above it; it is not normalised to it."""
    balancer = Balancer({"a": 1.0}, decay=0.9, total_norm=2.0)
    unit = torch.ones(1, 1, 4) / 2
    for _ in range(50):
        assert balancer.factors({"a": unit})["a"] == pytest.approx(2)
    kept = 1 - 0.9**51
    mean = (0.9 * (1 - 0.9**50) + 0.1 * 10) / kept
    assert balancer.factors({"a": 10 * unit})["a"] == pytest.approx(2 / mean)


def test_a_loss_that_is_added_later_gets_its_share_at_once() -> None:
    balancer = Balancer({"loud": 1.0, "soft": 3.0})
    gradients = draw(0)
    for _ in range(9):
        assert balancer.factors({"loud": gradients["loud"]})["loud"] * gradients[
            "loud"
        ].norm() == pytest.approx(1)
    shares = gradient_shares(gradients, balancer.factors(gradients))
    assert shares == pytest.approx({"loud": 0.25, "soft": 0.75})


def test_silence_changes_no_running_mean() -> None:
    balancer, silence = Balancer(WEIGHTS), {name: torch.zeros(2, 1, 9) for name in WEIGHTS}
    assert balancer.factors(silence) == {"loud": 0, "soft": 0}
    assert gradient_shares(silence, WEIGHTS) == {"loud": 0, "soft": 0}
    before = balancer.factors(draw(0))
    state = dict(balancer.state)
    assert balancer.factors(silence) == pytest.approx(before)
    assert balancer.state == state
    assert not combine(silence, before).any()


def test_weights_of_zero_are_shares_of_zero() -> None:
    gradients = draw(0)
    factors = Balancer({"loud": 0.0, "soft": 1.0}).factors(gradients)
    assert gradient_shares(gradients, factors) == {"loud": 0, "soft": 1}
    assert set(Balancer({"loud": 0.0, "soft": 0.0}).factors(gradients).values()) == {0.0}


def test_a_restored_balancer_continues_to_the_last_bit() -> None:
    first, second = Balancer(WEIGHTS), Balancer(WEIGHTS)
    for seed in range(7):
        first.factors(draw(seed))
    second.state = json.loads(json.dumps(first.state))
    for seed in range(7, 9):
        assert second.factors(draw(seed)) == first.factors(draw(seed))
    assert second.state == first.state


def test_processes_agree_by_the_mean_of_their_norms() -> None:
    other = torch.tensor([3e6, 1e-9])
    balancer = Balancer(WEIGHTS, reduce=lambda norms: (norms + other) / 2)
    gradients = draw(0)
    factors = balancer.factors(gradients)
    mean = (gradients["loud"].norm() + 3e6) / 2
    assert factors["loud"] == pytest.approx(0.25 / mean.item())


def test_the_gradient_reaches_the_weights_as_that_of_a_weighted_sum_would() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 5)
    decoded = layer(torch.randn(2, 1, 5))
    losses = {
        "square": decoded.square().mean(),
        "size": decoded.abs().mean(),
        "constant": torch.zeros(()),
        "elsewhere": layer.weight.square().sum(),
    }
    weights = {"square": 2.0, "size": 0.5, "constant": 1.0, "elsewhere": 7.0}
    gradients = audio_gradients(losses, decoded)
    assert not gradients["constant"].any() and not gradients["elsewhere"].any()
    (expected,) = torch.autograd.grad(
        2 * losses["square"] + 0.5 * losses["size"], layer.weight, retain_graph=True
    )
    decoded.backward(combine(gradients, weights))
    torch.testing.assert_close(layer.weight.grad, expected)
    shares = gradient_shares(gradients, weights)
    assert sum(shares.values()) == pytest.approx(1) and shares["elsewhere"] == 0


def test_one_crop_cannot_dominate_the_others() -> None:
    gradient = torch.randn(5, 1, 100, generator=torch.Generator().manual_seed(0))
    gradient[3] *= 1e6
    limited = clip_item_gradients(gradient)
    norms = limited.flatten(1).norm(dim=1)
    assert norms.max() <= MAX_ITEM_GRADIENT * norms.median() * 1.001
    others = [0, 1, 2, 4]
    torch.testing.assert_close(limited[others], gradient[others])
    direction = torch.nn.functional.cosine_similarity(limited[3], gradient[3])
    torch.testing.assert_close(direction, torch.ones(1))
    assert not clip_item_gradients(torch.zeros(4, 1, 10)).any()
