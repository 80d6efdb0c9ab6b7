"""Bits go where they lower the error most."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from codec.entropy.allocation import RateControl, gains, threshold


def random_errors(rng: np.random.Generator, frames: int, count: int) -> np.ndarray:
    """Errors that usually fall with every codebook, and sometimes rise."""
    factors = rng.uniform(0.3, 1.05, (frames, count))
    return np.cumprod(factors, axis=1) * rng.uniform(0.01, 2, (frames, 1))


@pytest.mark.parametrize("seed", range(20))
def test_no_other_choice_of_equal_cost_has_less_error(seed: int) -> None:
    """Against all choices, tried one by one."""
    rng = np.random.default_rng(seed)
    errors, prices = random_errors(rng, 4, 4), rng.uniform(3, 10, 4)
    worth, spent = gains(errors, prices), np.cumsum(prices)
    counts = (worth > threshold(worth, prices, rng.uniform(4, 16) * prices.mean())).sum(1)
    cost = spent[counts - 1].sum()
    error = errors[np.arange(4), counts - 1].sum()
    for other in itertools.product(range(4), repeat=4):
        if spent[list(other)].sum() <= cost + 1e-9:
            assert errors[np.arange(4), list(other)].sum() >= error - 1e-9


def test_worth_never_rises_and_the_first_codebook_is_always_sent() -> None:
    worth = gains(random_errors(np.random.default_rng(0), 50, 9), np.ones(9))
    assert np.isinf(worth[:, 0]).all() and (np.diff(worth[:, 1:], axis=1) <= 0).all()


@pytest.mark.parametrize("budget", [0, 50, 123.4, 250, 449, 450, 1e9])
def test_the_budget_is_met(budget: float) -> None:
    errors, prices = random_errors(np.random.default_rng(1), 50, 9), np.ones(9)
    worth = gains(errors, prices)
    cost = (worth > threshold(worth, prices, budget)).sum()
    # Codebooks that pay only together are bought together.
    assert max(50, min(budget, 450) - 9) <= cost <= max(50, min(budget, 450))


@pytest.mark.parametrize("frames_per_packet", [1, 7, 100])
@pytest.mark.parametrize("target", [15.0, 30.0, 50.0])
def test_the_mean_bitrate_is_the_target(target: float, frames_per_packet: int) -> None:
    """On 20 seconds of frames of which the first half needs less, at prices that are not known."""
    rng = np.random.default_rng(0)
    errors = random_errors(rng, 1_000, 9).T[None]
    errors[..., :500] *= 0.05
    control = RateControl(50 * target, frame_rate=50.0, bits_per_code=10)
    spent, counts = 0, []
    for start in range(0, 1_000, frames_per_packet):
        chosen = control.choose(errors[..., start : start + frames_per_packet])
        bits = int(7.3 * chosen.sum()) + (88 if frames_per_packet > 10 else 0)
        control.spent(bits, chosen)
        spent += bits
        counts.append(chosen[0])
    assert spent / 1_000 == pytest.approx(target, rel=0.02)
    joined = np.concatenate(counts)
    assert joined.min() >= 1 and joined.max() <= 9


def test_channels_share_the_bits() -> None:
    errors = random_errors(np.random.default_rng(0), 1_000, 9).T[None]
    both = np.concatenate((errors, 0.01 * errors))
    control, counts = RateControl(1_500.0, frame_rate=50.0, bits_per_code=10), []
    for start in range(0, 1_000, 100):
        chosen = control.choose(both[..., start : start + 100])
        control.spent(int(8 * chosen.sum()), chosen)
        counts.append(chosen)
    loud, quiet = np.concatenate(counts, axis=1)[:, 200:].mean(axis=1)
    assert loud > 2 * quiet
    assert 8 * (loud + quiet) / 2 == pytest.approx(30, rel=0.03)
