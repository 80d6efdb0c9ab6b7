from __future__ import annotations

import dataclasses
import itertools

import pytest

from train.recipe.sections import TrainConfig, load_recipe
from train.run.schedule import Budget, Monitor, learning_rate


def with_optimizer(**values: object) -> TrainConfig:
    recipe = load_recipe("speech24k")
    return dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, **values))


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "cooldown"])
def test_the_schedule_warms_up_and_anneals(schedule: str) -> None:
    recipe = with_optimizer(schedule=schedule, final_lr=1e-6)
    rates = [learning_rate(recipe, step, step / 10_000) for step in range(10_001)]
    peak = recipe.optimizer.warmup_steps
    assert rates[0] < 0.01 * recipe.optimizer.lr
    assert all(a < b for a, b in itertools.pairwise(rates[: peak // 2]))
    assert all(a >= b for a, b in itertools.pairwise(rates[peak:]))
    assert max(rates) <= recipe.optimizer.lr
    assert rates[-1] == pytest.approx(recipe.optimizer.final_lr)


def test_the_exponential_schedule_falls_by_equal_factors() -> None:
    recipe = with_optimizer(schedule="exponential", warmup_steps=0, lr=1e-3, final_lr=1e-5)
    assert learning_rate(recipe, 0, 0.5) == pytest.approx(1e-4)


def test_until_the_cooldown_a_run_does_not_depend_on_its_length() -> None:
    recipe = with_optimizer(schedule="cooldown", cooldown=0.25, warmup_steps=10, final_lr=0)
    short, long = (
        [learning_rate(recipe, step, Budget(steps).progress(step, 0)) for step in range(steps + 1)]
        for steps in (400, 4000)
    )
    assert short[:301] == long[:301]
    assert short[300] == recipe.optimizer.lr > short[301]
    assert short[325] == pytest.approx(recipe.optimizer.lr / 2)  # a quarter of the way down
    assert short[400] == 0


def test_a_plateau_halves_the_rate_after_patience() -> None:
    recipe = with_optimizer(
        schedule="plateau", plateau_patience=2, warmup_steps=0, lr=2e-4, final_lr=3e-5
    )
    monitor, rates = Monitor(), []
    for step, mel in enumerate([1.0, 0.9, 0.91, 0.92, 0.93, 0.94, 0.8, 0.9, 0.9, 0.9, 0.9]):
        monitor.update(recipe, mel, step)
        rates.append(learning_rate(recipe, step, 0.5, monitor.halvings) / recipe.optimizer.lr)
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.15, 0.15, 0.15])
    assert (monitor.best, monitor.best_step) == (0.8, 6)


@pytest.mark.parametrize(("metric", "sign"), [("mel", 1), ("si_sdr", -1), ("stoi", -1)])
def test_the_monitor_knows_which_way_is_better_and_when_to_stop(metric: str, sign: int) -> None:
    recipe = load_recipe("speech24k")
    run = dataclasses.replace(recipe.run, metric=metric, early_stop=2)
    recipe = dataclasses.replace(recipe, run=run)
    monitor = Monitor()
    told = [
        (monitor.update(recipe, sign * v, i), monitor.should_stop(recipe))
        for i, v in enumerate([3.0, 2.0, 2.0, 1.0, 4.0, 1.5])
    ]
    assert told == [
        (True, False),
        (True, False),
        (False, False),
        (True, False),
        (False, False),
        (False, True),
    ]
    never = dataclasses.replace(recipe, run=dataclasses.replace(run, early_stop=0))
    assert not monitor.should_stop(never)


def test_a_budget_is_steps_or_minutes() -> None:
    assert Budget(200).progress(50, 1e9) == 0.25
    assert Budget(200, minutes=2).progress(10**9, 30) == 0.25
    assert Budget(200).progress(300, 0) == 1
