"""`TrainState`: everything that changes during a run, and how it begins."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from codec.network.model import Codec
from codec.network.weights import load_codec
from train.objective.balancer import Balancer
from train.objective.objective import Objective
from train.randomness import seed_weights
from train.recipe.sections import TrainConfig
from train.run.adversary import Adversary
from train.run.averaging import WeightAverage
from train.run.codebooks import CodebookUpkeep
from train.run.explosion import ExplosionGuard
from train.run.identity import initialize_as_identity
from train.run.optimizers import make_optimizer
from train.run.schedule import Monitor
from train.run.transfer import transfer_weights


@dataclass
class RunningMeans:
    """Means of the figures of the steps since the last report.

    Attributes:
        sums: sum and count of each figure.

    Example:
        >>> means = RunningMeans()
        >>> for loss in (1.0, 2.0):
        ...     means.add({"loss": loss})
        >>> means.take(), means.sums
        ({'loss': 1.5}, {})
    """

    sums: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: dict[str, float]) -> None:
        """Add the figures of a step."""
        for name, value in figures.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value, count + 1]

    def take(self) -> dict[str, float]:
        """The means, each over the steps that had the figure, and start again."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means


@dataclass
class TrainState:
    """Everything that changes during a run and is saved in checkpoints.

    It includes no random state and no position in the data: the draws of a step follow from the
    recipe's seed and the number of the step, see `train.randomness`.

    Attributes:
        codec: the model that is trained.
        optimizer: AdamW over ``codec``.
        average: running average of its weights; this is what gets saved and used.
        codebooks: use of the codes.
        adversary: discriminators of the adversarial stage, if there is one.
        balancer: running norms of the losses' gradients.
        guard: running mean of the loss.
        monitor: the best validation so far.
        means: figures since the last report.
        step: optimizer steps done.
        seconds: wall-clock time, summed over resumptions.
    """

    codec: Codec
    optimizer: torch.optim.AdamW
    average: WeightAverage
    codebooks: CodebookUpkeep
    adversary: Adversary | None
    balancer: Balancer
    guard: ExplosionGuard = field(default_factory=ExplosionGuard)
    monitor: Monitor = field(default_factory=Monitor)
    means: RunningMeans = field(default_factory=RunningMeans)
    step: int = 0
    seconds: float = 0.0


def make_objective(recipe: TrainConfig) -> Objective:
    """The objective of a recipe, for training, validation and benchmarks."""
    loss = recipe.loss
    return Objective(loss.reconstruction, recipe.model.sample_rate, loss.windows_per_step)


def new_state(recipe: TrainConfig, initial_model: str | None = None) -> TrainState:
    """The state before the first step: seeded weights, or those of a model of the same shape.

    Raises:
        ModelError: there is no such model, or its weights do not fit, see `transfer_weights`.

    Example:
        >>> from train.recipe.loading import load_recipe
        >>> new_state(load_recipe("tiny")).step
        0
    """
    seed_weights(recipe.run.seed)
    codec = Codec(recipe.model)
    adversary = None
    if recipe.adversarial.weight:
        adversary = Adversary(recipe.adversarial, recipe.optimizer)
    restarts = recipe.model.has_codes and "quantizer" not in recipe.optimizer.freeze
    codebooks = CodebookUpkeep(recipe.quantizer, recipe.model, restarts=restarts)
    if initial_model is not None:
        codebooks.num_pretrained = transfer_weights(load_codec(initial_model), codec)
        codebooks.pretrained = True
        if adversary is not None:
            adversary.load_pretrained(initial_model)
    elif recipe.model.lapped_transform:
        initialize_as_identity(codec)
    for part in recipe.optimizer.freeze:
        getattr(codec, part).requires_grad_(False)
    weights = make_objective(recipe).weights | (adversary.weights if adversary else {})
    return TrainState(
        codec=codec,
        optimizer=make_optimizer(codec, recipe.optimizer),
        average=WeightAverage(codec, recipe.optimizer.average_decay),
        codebooks=codebooks,
        adversary=adversary,
        balancer=Balancer(weights),
    )
