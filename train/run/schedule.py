"""How long a run lasts, how its learning rate moves, and when its best model was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from train.recipe.sections import METRICS, TrainConfig


@dataclass(frozen=True)
class Budget:
    """A number of steps, or minutes of wall-clock time if given."""

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
        best: value of the recipe's metric then.
        best_step: when that was.
        stale: validations since then.
        halvings: how often the ``plateau`` schedule has halved the learning rate.
    """

    best: float | None = None
    best_step: int = 0
    stale: int = 0
    halvings: int = 0

    def update(self, recipe: TrainConfig, value: float, step: int) -> bool:
        """Take note of a validation; True if it is the best so far."""
        choose = METRICS[recipe.run.metric]
        improved = self.best is None or (value != self.best and choose(value, self.best) == value)
        if improved:
            self.best, self.best_step, self.stale = value, step, 0
            return True
        self.stale += 1
        plateau = recipe.optimizer.schedule == "plateau"
        if plateau and self.stale % recipe.optimizer.plateau_patience == 0:
            self.halvings += 1
        return False

    def should_stop(self, recipe: TrainConfig) -> bool:
        """Whether there was no better validation for as long as the recipe has patience."""
        return 0 < recipe.run.early_stop <= self.stale


def learning_rate(recipe: TrainConfig, step: int, progress: float, halvings: int = 0) -> float:
    """A linear warm-up, then the recipe's schedule down to the final rate.

    Args:
        recipe: with the highest and the final rate.
        step: steps done, for the warm-up.
        progress: share of the run that is done, for the schedule.
        halvings: how often a plateau was met, for the schedule of that name.
    """
    peak, final = recipe.optimizer.lr, recipe.optimizer.final_lr
    warmup = min(1.0, (step + 1) / (recipe.optimizer.warmup_steps + 1))
    if recipe.optimizer.schedule == "cosine":
        rate = final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))
    elif recipe.optimizer.schedule == "exponential":
        rate = peak * (final / peak) ** progress
    elif recipe.optimizer.schedule == "cooldown":
        share = recipe.optimizer.cooldown
        rate = final + (peak - final) * (1 - math.sqrt(max(0.0, 1 - (1 - progress) / share)))
    else:
        rate = max(final, peak * 0.5**halvings)
    return warmup * rate
