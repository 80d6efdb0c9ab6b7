"""`Adversary`: the discriminators of a run, their optimizer, and the losses that they give."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from lightning_fabric import Fabric
from torch import Tensor

from codec.errors import ModelError
from codec.io.outputs import write_atomically
from codec.model_folder import find_model
from train.objective.discriminators import (
    Discriminators,
    Judgement,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)
from train.recipe.sections import AdversarialConfig, OptimizerConfig
from train.run.optimizers import make_optimizer, set_learning_rate

FILE = "discriminators.safetensors"
"""Name of the file next to a model's weights."""


class Adversary:
    """The adversarial stage of a run.

    Args:
        config: the stage.
        optimizer: settings of AdamW that discriminators share with the codec.

    Attributes:
        discriminators: the discriminators.
        optimizer: AdamW over them.
        pretrained: they were trained against the model that the run started from.
    """

    def __init__(self, config: AdversarialConfig, optimizer: OptimizerConfig) -> None:
        self._config = config
        self._relative_rate = (config.lr, optimizer.lr)
        self.discriminators = Discriminators(config.channels, config.stft_windows, config.periods)
        self.optimizer = make_optimizer(self.discriminators, optimizer)
        self.pretrained = False

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the codec's adversarial losses."""
        weights = {"adversarial": self._config.weight, "feature": self._config.feature_weight}
        return {name: weight for name, weight in weights.items() if weight}

    def set_up(self, fabric: Fabric) -> None:
        """Move the discriminators to the device of ``fabric``."""
        self._fabric = fabric
        self._run, self._run_optimizer = fabric.setup(self.discriminators, self.optimizer)

    def trains(self, step: int) -> bool:
        """Whether discriminators are trained in this step."""
        return step >= self._config.start_step

    def trains_codec(self, step: int) -> bool:
        """Whether the codec gets adversarial losses in this step."""
        delay = 0 if self.pretrained else self._config.generator_delay
        return step >= self._config.start_step + delay

    def train(self, clean: Tensor, decoded: Tensor, rate: float) -> Tensor:
        """One step of the discriminators.

        Args:
            clean: ``[B, 1, N]``.
            decoded: ``[B, 1, N]``.
            rate: learning rate of the codec in this step.

        Returns:
            Their loss before the step.
        """
        lr, codec_lr = self._relative_rate
        set_learning_rate(self._run_optimizer, rate * lr / codec_lr)
        with self._autocast():
            # In one pass, because several processes can only synchronise one pass per step.
            judgements = self._run(torch.cat((clean, decoded.detach())))
        both = [each.score for each in judgements]
        real, fake = zip(*(score.chunk(2) for score in both), strict=True)
        loss = discriminator_loss(
            [Judgement(score, []) for score in real],
            [Judgement(score, []) for score in fake],
            self._config.loss,
        )
        self._run_optimizer.zero_grad()
        self._fabric.backward(loss)
        self._run_optimizer.step()
        return loss.detach()

    def generator_losses(self, clean: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        """The codec's losses against the present discriminators, those with a weight above zero."""
        # The plain module: gradients flow to the audio but not to the discriminators.
        with self._fabric.autocast(), self._autocast():
            with torch.no_grad():
                real = self.discriminators(clean)
            fake = self.discriminators(decoded)
        losses = {"adversarial": adversarial_loss(fake, self._config.loss)}
        if self._config.feature_weight:
            losses["feature"] = feature_loss(real, fake)
        return losses

    def _autocast(self) -> AbstractContextManager[object]:
        """Half precision for the discriminators alone, if the recipe asks for it."""
        if self._config.precision == "fp32":
            return nullcontext()
        return torch.autocast(self._fabric.device.type, torch.bfloat16)

    def load_pretrained(self, model: str) -> None:
        """Use the discriminators that a model was trained against, if its folder has them.

        Raises:
            ModelError: they have another shape, or their file is damaged.
        """
        path = find_model(model) / FILE
        if not path.exists():
            return
        try:
            self.discriminators.load_state_dict(safetensors.torch.load_file(path))
        except (OSError, safetensors.SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{path} does not fit the recipe's [adversarial]: {reason}") from error
        self.pretrained = True

    def save(self, folder: Path) -> None:
        """Write the discriminators into a model folder."""
        tensors = {k: v.contiguous() for k, v in self.discriminators.state_dict().items()}
        write_atomically(folder / FILE, safetensors.torch.save(tensors))
