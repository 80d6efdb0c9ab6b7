"""Bits go where they lower the error most."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from codec.core.frames import levels_and_weights, slopes
from codec.rate.allocation import RateControl, lambda_for
from codec.rate.block import Block


def random_errors(rng: np.random.Generator, frames: int, count: int) -> np.ndarray:
    """Errors that usually fall with every codebook, and sometimes rise."""
    factors = rng.uniform(0.3, 1.05, (frames, count))
    return np.cumprod(factors, axis=1) * rng.uniform(0.01, 2, (frames, 1))


def block_of(errors: np.ndarray, paused: np.ndarray | None = None) -> Block:
    """What a rate control is given for errors ``[C, K, T]`` and codes of 10 bits."""
    found = slopes(errors.transpose(0, 2, 1), np.full(errors.shape[1], 10.0))
    if paused is not None:
        found[paused] = -np.inf
    return Block(np.zeros(errors.shape, np.int64), found)


def counts_of(block: Block, lambda_: float) -> np.ndarray:
    """Numbers of codes whose slopes are above lambda."""
    assert block.slopes is not None
    counts: np.ndarray = (block.slopes > lambda_).sum(axis=-1)
    return counts


def packets_of(
    errors: np.ndarray, num_frames: int, paused: np.ndarray | None = None
) -> list[Block]:
    """The same in packets."""
    parts = [slice(start, start + num_frames) for start in range(0, errors.shape[2], num_frames)]
    return [
        block_of(errors[..., part], None if paused is None else paused[:, part]) for part in parts
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_other_choice_of_equal_cost_has_less_error(seed: int) -> None:
    """Against all choices, tried one by one."""
    rng = np.random.default_rng(seed)
    errors, bits = random_errors(rng, 4, 4), np.full(4, rng.uniform(3, 10))
    found, spent = slopes(errors, bits), np.cumsum(bits)
    counts = (found > lambda_for(found, rng.uniform(4, 16))).sum(1)
    cost = spent[counts - 1].sum()
    error = errors[np.arange(4), counts - 1].sum()
    for other in itertools.product(range(4), repeat=4):
        if spent[list(other)].sum() <= cost + 1e-9:
            assert errors[np.arange(4), list(other)].sum() >= error - 1e-9


def test_slopes_never_rise_and_the_first_codebook_is_always_sent() -> None:
    found = slopes(random_errors(np.random.default_rng(0), 50, 9), np.ones(9))
    assert np.isinf(found[:, 0]).all() and (np.diff(found[:, 1:], axis=1) <= 0).all()


@pytest.mark.parametrize("budget", [0, 50, 123.4, 250, 449, 450, 1e9])
def test_the_budget_is_met(budget: float) -> None:
    errors, bits = random_errors(np.random.default_rng(1), 50, 9), np.ones(9)
    found = slopes(errors, bits)
    cost = (found > lambda_for(found, budget)).sum()
    # Codebooks that pay only together are bought together.
    assert max(50, min(budget, 450) - 9) <= cost <= max(50, min(budget, 450))


@pytest.mark.parametrize("seed", range(5))
def test_lambda_is_the_steepest_slope_that_is_not_affordable(seed: int) -> None:
    """Found digit by digit, also among equal slopes, infinite ones and those below zero."""
    rng = np.random.default_rng(seed)
    frames = rng.choice([-1e-300, -0.5, 0.0, 5e-324, 1e-9, 0.7, 3e300], (40, 7))
    frames[::3] = rng.standard_normal((14, 7))
    frames[:, 0] = np.inf
    ordered = np.sort(frames.reshape(-1))[::-1]
    for count in range(0, 300, 7):
        expected = ordered[max(count, 40)] if count < 280 else -np.inf
        assert lambda_for(frames, count + 0.99) == expected


@pytest.mark.parametrize("frames_per_packet", [1, 7, 100])
@pytest.mark.parametrize("target", [15.0, 30.0, 50.0])
def test_the_mean_bitrate_is_the_target(target: float, frames_per_packet: int) -> None:
    """On 20 seconds of frames of which the first half needs less, at prices that are not known."""
    rng = np.random.default_rng(0)
    errors = random_errors(rng, 1_000, 9).T[None]
    errors[..., :500] *= 0.05
    control = RateControl(50 * target, frame_rate=50.0, bits_per_code=10)
    spent, counts = 0, []
    for packet in packets_of(errors, frames_per_packet):
        chosen = counts_of(packet, control.next_lambda(packet))
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
    for packet in packets_of(both, 100):
        chosen = counts_of(packet, control.next_lambda(packet))
        control.spent(int(8 * chosen.sum()), chosen)
        counts.append(chosen)
    loud, quiet = np.concatenate(counts, axis=1)[:, 200:].mean(axis=1)
    assert loud > 2 * quiet
    assert 8 * (loud + quiet) / 2 == pytest.approx(30, rel=0.03)


@pytest.mark.parametrize("num_frames", [500, 613, 730])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_stream_that_waits_meets_the_bitrate(num_frames: int, channels: int) -> None:
    """The end needs little, so what was not spent before cannot be spent any more."""
    errors = random_errors(np.random.default_rng(0), channels * num_frames, 9)
    errors = errors.reshape(channels, num_frames, 9).transpose(0, 2, 1).copy()
    errors[..., -150:] *= 1e-6
    packets, misses = packets_of(errors, 100), []
    for waits in (True, False):
        control, spent = RateControl(1_500.0, 50.0, 10), 0
        for number, packet in enumerate(packets):
            ahead = packets[number + 1 :] if waits else None
            chosen = counts_of(packet, control.next_lambda(packet, ahead))
            bits = int(7 * chosen.sum())
            control.spent(bits, chosen)
            spent += bits
        misses.append(abs(spent / num_frames / channels / 30 - 1))
    assert misses[0] < 0.02 < misses[1]


def test_lambda_is_that_of_all_frames_that_are_known() -> None:
    """What follows and needs more gets more: the first packet gets no more than its due."""
    errors = random_errors(np.random.default_rng(0), 200, 9).T[None]
    errors[..., :100] *= 0.1
    first, second = packets_of(errors, 100)
    control = RateControl(1_500.0, 50.0, 10)
    alone = counts_of(first, control.next_lambda(first, []))
    known = counts_of(first, control.next_lambda(first, [second]))
    assert known.sum() < 0.7 * alone.sum()


def test_pauses_have_no_part_in_the_choice() -> None:
    """As many codes as without them, and a little more for what they save."""
    errors = random_errors(np.random.default_rng(0), 600, 9).T[None]
    paused = np.zeros((1, 600), np.bool_)
    paused[:, 200:400] = True
    control, counts = RateControl(1_500.0, 50.0, 10), []
    for packet in packets_of(errors, 100, paused):
        chosen = counts_of(packet, control.next_lambda(packet))
        control.spent(int(8 * chosen.sum()), chosen)
        counts.append(chosen[0])
    means = [each.mean() for each in counts]
    assert means[1] < means[4] < 2 * means[1] and means[2] == means[3] == 0


def test_constant_quality_needs_fewer_codes_where_errors_are_small() -> None:
    errors = random_errors(np.random.default_rng(0), 400, 9).T[None]
    frames = block_of(errors)
    sums = [counts_of(frames, each).sum() for each in (0.1, 0.01, 0.001)]
    assert 400 <= sums[0] < sums[1] < sums[2] <= 3600
    assert counts_of(block_of(0.01 * errors), 0.01).sum() < sums[1]


def test_errors_in_quiet_frames_weigh_less() -> None:
    audio = np.concatenate((np.full(80, 0.1), np.full(80, 0.01), np.zeros(80)))
    loud, quiet, silent = levels_and_weights(audio.reshape(3, 80))[1]
    assert loud / quiet == pytest.approx(100**0.3, rel=1e-3) and 0 < silent < 0.05 * quiet
