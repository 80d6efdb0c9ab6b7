"""Bits go where they lower the error most."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from codec.entropy.allocation import ConstantQuality, RateControl, gains, heard, threshold


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


@pytest.mark.parametrize("num_frames", [500, 613, 730])
def test_a_known_length_is_used_to_meet_the_bitrate(num_frames: int) -> None:
    """Prices rise at the end, where there is little time to make up for it."""
    errors = random_errors(np.random.default_rng(0), num_frames, 9).T[None]
    misses = []
    for known in (num_frames, None):
        control, spent = RateControl(1_500.0, 50.0, 10, known), 0
        for start in range(0, num_frames, 100):
            chosen = control.choose(errors[..., start : start + 100])
            bits = int((6 if start < num_frames - 220 else 8) * chosen.sum())
            control.spent(bits, chosen)
            spent += bits
        misses.append(abs(spent / num_frames / 30 - 1))
    assert misses[0] < 0.02 and misses[0] < misses[1]


def test_pauses_have_no_part_in_the_choice() -> None:
    """As many codes as without them, and a little more for what they save."""
    errors = random_errors(np.random.default_rng(0), 600, 9).T[None]
    paused = np.zeros((1, 600), np.bool_)
    paused[:, 200:400] = True
    control, counts = RateControl(1_500.0, 50.0, 10), []
    for start in range(0, 600, 100):
        part = slice(start, start + 100)
        chosen = control.choose(errors[..., part], paused[:, part])
        chosen = np.where(paused[:, part], 0, chosen)
        control.spent(int(8 * chosen.sum()), chosen)
        counts.append(chosen[0])
    means = [each.mean() for each in counts]
    assert means[1] < means[4] < 2 * means[1] and means[2] == means[3] == 0


def test_constant_quality_needs_fewer_codes_where_errors_are_small() -> None:
    errors = random_errors(np.random.default_rng(0), 400, 9).T[None]
    sums = [ConstantQuality(each, 10).choose(errors).sum() for each in (0.1, 0.01, 0.001)]
    assert 400 <= sums[0] < sums[1] < sums[2] <= 3600
    assert ConstantQuality(0.01, 10).choose(0.01 * errors).sum() < sums[1]


def test_errors_in_quiet_frames_are_heard_less() -> None:
    audio = np.concatenate((np.full(80, 0.1), np.full(80, 0.01), np.zeros(80)))
    weighted = heard(np.ones((1, 2, 3)), audio.astype(np.float32)[None])
    assert np.array_equal(weighted[0, 0], weighted[0, 1])
    loud, quiet, silent = weighted[0, 0]
    assert loud / quiet == pytest.approx(100**0.3, rel=1e-3) and 0 < silent < 0.05 * quiet
