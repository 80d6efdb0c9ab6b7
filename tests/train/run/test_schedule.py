from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from train.recipe.loading import load_recipe
from train.recipe.sections import OptimizerConfig
from train.run.schedule import Budget, Monitor, learning_rate

RECIPE = load_recipe("speech24k")


def optimizer_with(**values: Any) -> OptimizerConfig:
    return dataclasses.replace(RECIPE.optimizer, **values)


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "cooldown"])
def test_the_schedule_warms_up_and_anneals(schedule: str) -> None:
    optimizer = optimizer_with(schedule=schedule, final_lr=1e-6)
    rates = [learning_rate(optimizer, step, step / 10_000) for step in range(10_001)]
    peak = optimizer.warmup_steps
    assert rates[0] < 0.01 * optimizer.lr
    assert all(a < b for a, b in itertools.pairwise(rates[: peak // 2]))
    assert all(a >= b for a, b in itertools.pairwise(rates[peak:]))
    assert max(rates) <= optimizer.lr
    assert rates[-1] == pytest.approx(optimizer.final_lr)


def test_the_exponential_schedule_falls_by_equal_factors() -> None:
    optimizer = optimizer_with(schedule="exponential", warmup_steps=0, lr=1e-3, final_lr=1e-5)
    assert learning_rate(optimizer, 0, 0.5) == pytest.approx(1e-4)


def test_until_the_cooldown_a_run_does_not_depend_on_its_length() -> None:
    optimizer = optimizer_with(schedule="cooldown", cooldown=0.25, warmup_steps=10, final_lr=0)
    short, long = (
        [
            learning_rate(optimizer, step, Budget(steps).progress(step, 0))
            for step in range(steps + 1)
        ]
        for steps in (400, 4000)
    )
    assert short[:301] == long[:301]
    assert short[300] == optimizer.lr > short[301]
    assert short[325] == pytest.approx(optimizer.lr / 2)  # a quarter of the way down
    assert short[400] == 0


def test_a_plateau_halves_the_rate_after_patience() -> None:
    optimizer = optimizer_with(
        schedule="plateau", plateau_patience=2, warmup_steps=0, lr=2e-4, final_lr=3e-5
    )
    monitor, rates = Monitor(), []
    for step, mel in enumerate([1.0, 0.9, 0.91, 0.92, 0.93, 0.94, 0.8, 0.9, 0.9, 0.9, 0.9]):
        monitor.update(RECIPE.run, optimizer, mel, step)
        rates.append(learning_rate(optimizer, step, 0.5, monitor.halvings) / optimizer.lr)
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.15, 0.15, 0.15])
    assert (monitor.best, monitor.best_step) == (0.8, 6)


@pytest.mark.parametrize(("metric", "sign"), [("mel", 1), ("si_sdr", -1), ("stoi", -1)])
def test_the_monitor_knows_which_way_is_better_and_when_to_stop(metric: str, sign: int) -> None:
    run = dataclasses.replace(RECIPE.run, metric=metric, early_stop=2)
    monitor = Monitor()
    found = [
        (monitor.update(run, RECIPE.optimizer, sign * v, i), monitor.should_stop(run))
        for i, v in enumerate([3.0, 2.0, 2.0, 1.0, 4.0, 1.5])
    ]
    assert found == [
        (True, False),
        (True, False),
        (False, False),
        (True, False),
        (False, False),
        (False, True),
    ]
    assert not monitor.should_stop(dataclasses.replace(run, early_stop=0))


def test_a_budget_is_steps_or_minutes() -> None:
    assert Budget(200).progress(50, 1e9) == 0.25
    assert Budget(200, minutes=2).progress(10**9, 30) == 0.25
    assert Budget(200).progress(300, 0) == 1
