"""The length of a run, its learning rate, and its best validation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from train.recipe.sections import METRICS, OptimizerConfig, RunConfig


@dataclass(frozen=True)
class Budget:
    """A number of steps, or minutes of wall-clock time if given.

    Example:
        >>> Budget(steps=200).progress(step=50, seconds=1000)
        0.25
        >>> Budget(steps=200, minutes=2).progress(step=50, seconds=60)
        0.5
    """

    steps: int
    minutes: float | None = None

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, in [0, 1]; the schedules follow it."""
        if self.minutes is None:
            return min(1.0, step / self.steps)
        return min(1.0, seconds / (60 * self.minutes))


@dataclass
class Monitor:
    """The best validation so far.

    Attributes:
        best: its value of the recipe's metric.
        best_step: its step.
        stale: number of validations since then.
        halvings: number of times that the ``plateau`` schedule has halved the learning rate.
    """

    best: float | None = None
    best_step: int = 0
    stale: int = 0
    halvings: int = 0

    def update(self, run: RunConfig, optimizer: OptimizerConfig, value: float, step: int) -> bool:
        """Add a validation; True if it is the best so far."""
        choose = METRICS[run.metric]
        improved = self.best is None or (value != self.best and choose(value, self.best) == value)
        if improved:
            self.best, self.best_step, self.stale = value, step, 0
            return True
        self.stale += 1
        plateau = optimizer.schedule == "plateau"
        if plateau and self.stale % optimizer.plateau_patience == 0:
            self.halvings += 1
        return False

    def should_stop(self, run: RunConfig) -> bool:
        """Whether the last ``early_stop`` validations brought no improvement."""
        return 0 < run.early_stop <= self.stale


def learning_rate(
    optimizer: OptimizerConfig, step: int, progress: float, halvings: int = 0
) -> float:
    """A linear warm-up, then the recipe's schedule down to the final rate.

    Args:
        optimizer: highest and final rate, warm-up and schedule.
        step: steps done, for the warm-up.
        progress: share of the run that is done, for the schedule.
        halvings: number of plateaus so far, for the schedule of that name.
    """
    peak, final = optimizer.lr, optimizer.final_lr
    warmup = min(1.0, (step + 1) / (optimizer.warmup_steps + 1))
    if optimizer.schedule == "cosine":
        rate = final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))
    elif optimizer.schedule == "exponential":
        rate = peak * (final / peak) ** progress
    elif optimizer.schedule == "cooldown":
        share = optimizer.cooldown
        rate = final + (peak - final) * (1 - math.sqrt(max(0.0, 1 - (1 - progress) / share)))
    else:
        rate = max(final, peak * 0.5**halvings)
    return warmup * rate
