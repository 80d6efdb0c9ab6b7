"""`ExplosionGuard`: stops a run whose losses are not finite or far from what they were."""

from __future__ import annotations

import math
from dataclasses import dataclass

from train.run.errors import TrainingError

LOSS_DECAY = 0.99
# A loss this many times its running mean is not a coincidence if it lasts this many steps. A single
# crop may cause it in one batch; its gradient is bounded, and the step is a useful one.
EXPLOSION = 30.0
EXPLODING_STEPS = 10
# Before this step losses still fall quickly.
FIRST_STEP = 100


@dataclass
class ExplosionGuard:
    """Compares the loss of each step with its running mean.

    Attributes:
        typical_loss: running mean of the total loss.
        exploding_steps: number of steps in a row whose loss was far above it.
    """

    typical_loss: float | None = None
    exploding_steps: int = 0

    def check(self, figures: dict[str, float], step: int, lr: float, adversarial_lr: float) -> None:
        """Raise unless the losses of a step are usable.

        Args:
            figures: ``loss``, the total, and ``discriminator`` if there are discriminators.
            step: steps done.
            lr: the recipe's learning rate, of which the message suggests half.
            adversarial_lr: the recipe's learning rate of the discriminators.

        Raises:
            TrainingError: a loss is not finite, or has been too high for too long.
        """
        loss, discriminator = figures["loss"], figures.get("discriminator", 0.0)
        if not math.isfinite(discriminator):
            raise TrainingError(
                f"the discriminators' loss is {discriminator} at step {step + 1}: continue from "
                f"the last checkpoint with --resume --set adversarial.lr={adversarial_lr / 2:g}"
            )
        if not math.isfinite(loss):
            raise exploded(f"the loss is {loss}", step, lr)
        typical = self.typical_loss
        explodes = typical is not None and step > FIRST_STEP and loss > EXPLOSION * typical
        self.exploding_steps = self.exploding_steps + 1 if explodes else 0
        if self.exploding_steps >= EXPLODING_STEPS:
            raise exploded(f"the loss rose from {typical:.3g} to {loss:.3g}", step, lr)

    def note(self, loss: float) -> None:
        """Add the loss of a finished step to the running mean."""
        typical = loss if self.typical_loss is None else self.typical_loss
        bounded = min(loss, EXPLOSION * typical)
        self.typical_loss = LOSS_DECAY * typical + (1 - LOSS_DECAY) * bounded


def exploded(what: str, step: int, lr: float) -> TrainingError:
    """The error of a run that diverged after ``step`` steps."""
    return TrainingError(
        f"{what} at step {step + 1}: continue from the last checkpoint, if there is one, with "
        f"--resume and a lower optimizer.lr: --set optimizer.lr={lr / 2:g}"
    )
