"""Bits go where they lower the error most."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from codec.entropy.allocation import gains, threshold


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
