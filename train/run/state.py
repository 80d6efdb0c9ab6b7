"""`TrainState`: all that changes during a run, and how it starts."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from codec.errors import ModelError
from codec.model_folder import find_model
from codec.network.model import Codec
from codec.network.weights import load_codec
from train.objective.discriminators import Discriminators
from train.recipe.sections import TrainConfig
from train.run.identity import initialize_as_identity
from train.run.schedule import Monitor


@dataclass
class TrainState:
    """Everything that changes during a run.

    No random state and no position in the data is among it: the draws of step n follow from the
    recipe's seed, the process' rank and n alone.

    Attributes:
        codec: the model being trained.
        average: its weights, averaged over the last steps; this is what gets saved and used.
        optimizer: AdamW over ``codec``.
        usage: decayed counts of each code's use, ``[K, codebook_size]``.
        discriminators: of the adversarial stage, if there is one.
        discriminator_optimizer: AdamW over them.
        gradient_norms: running norms of the losses' gradients, for the balancer.
        monitor: the best validation so far.
        step: optimizer steps done.
        seconds: wall-clock time, summed over resumptions.
        typical_loss: running mean of the total loss, to tell an explosion by.
        noted: sum and count of each figure of the steps since the last report.
        fine_tuned: the run started from a trained model, whose codebooks are kept.
        taught: the discriminators came with that model, and are heard from the first step.
    """

    codec: Codec
    average: Codec
    optimizer: torch.optim.AdamW
    usage: Tensor
    discriminators: Discriminators | None = None
    discriminator_optimizer: torch.optim.AdamW | None = None
    gradient_norms: dict[str, float] = field(default_factory=dict)
    monitor: Monitor = field(default_factory=Monitor)
    step: int = 0
    seconds: float = 0.0
    typical_loss: float | None = None
    noted: dict[str, list[float]] = field(default_factory=dict)
    fine_tuned: bool = False
    taught: bool = False

    def note(self, figures: dict[str, float]) -> None:
        """Keep the figures of a step for the next report."""
        for name, value in figures.items():
            total, count = self.noted.get(name, (0.0, 0))
            self.noted[name] = [total + value, count + 1]

    def take_means(self) -> dict[str, float]:
        """Means of what was noted, each over the steps that told it; begins anew."""
        means = {name: total / count for name, (total, count) in self.noted.items()}
        self.noted = {}
        return means


def start(recipe: TrainConfig, initial_model: str | None = None) -> TrainState:
    """A fresh state: seeded weights, or those of an existing model of the same shape.

    Raises:
        ModelError: there is no such model, or it has another shape.
    """
    torch.manual_seed(recipe.run.seed)
    codec = Codec(recipe.model)
    discriminators, discriminator_optimizer, taught = None, None, False
    if recipe.adversarial.weight:
        discriminators = Discriminators(recipe.adversarial)
        discriminator_optimizer = make_optimizer(discriminators, recipe)
    if initial_model is not None:
        source = load_codec(initial_model)
        if source.config != recipe.model:
            raise ModelError(f"model {initial_model!r} has another shape than the recipe's [model]")
        codec.load_state_dict(source.state_dict())
        if discriminators is not None:
            taught = load_discriminators(discriminators, initial_model)
    elif recipe.model.lapped_transform:
        initialize_as_identity(codec)
    for part in recipe.optimizer.freeze:
        getattr(codec, part).requires_grad_(False)
    return TrainState(
        codec=codec,
        average=copy.deepcopy(codec).requires_grad_(False),
        optimizer=make_optimizer(codec, recipe),
        usage=torch.ones(recipe.model.num_codebooks, recipe.model.codebook_size),
        discriminators=discriminators,
        discriminator_optimizer=discriminator_optimizer,
        fine_tuned=initial_model is not None,
        taught=taught,
    )


def load_discriminators(discriminators: Discriminators, model: str) -> bool:
    """Take over the discriminators that a model was trained against, if it has kept them."""
    path = find_model(model) / "discriminators.safetensors"
    if not path.exists():
        return False
    try:
        discriminators.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} does not fit the recipe's [adversarial]: {reason}") from error
    return True


def make_optimizer(module: nn.Module, recipe: TrainConfig) -> torch.optim.AdamW:
    """AdamW over what is not frozen; each step sets its learning rate.

    Matrices decay; codes, biases and norms would lose what they stand for.
    """
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    decays = {name for name, p in named.items() if p.ndim > 1 and not name.endswith("codebook")}
    groups = [
        {
            "params": [(name, p) for name, p in named.items() if name in decays],
            "weight_decay": recipe.optimizer.weight_decay,
        },
        {
            "params": [(name, p) for name, p in named.items() if name not in decays],
            "weight_decay": 0.0,
        },
    ]
    betas = (recipe.optimizer.betas[0], recipe.optimizer.betas[1])
    return torch.optim.AdamW(groups, lr=recipe.optimizer.lr, betas=betas, fused=True)
