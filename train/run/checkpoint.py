"""The resumable state of a training run: safetensors files, written atomically, the last k kept.

Private to ``train``; the model folder that `aecodec encode --model` reads is another thing. (Fabric
could write checkpoints too, but by pickling.)
"""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from codec.config import CodecConfig
from codec.errors import ModelError
from codec.io.outputs import write_atomically
from train.run.schedule import Monitor
from train.run.state import TrainState

logger = logging.getLogger(__name__)

FACTS = ("gradient_norms", "step", "seconds", "typical_loss", "noted", "fine_tuned", "taught")


def save_checkpoint(state: TrainState, folder: Path, keep: int) -> None:
    """Write ``folder/step_N.safetensors`` and remove all but the last ``keep`` of them."""
    tensors = {"usage": state.usage}
    tensors |= _prefixed("codec.", state.codec.state_dict())
    tensors |= _prefixed("average.", state.average.state_dict())
    tensors |= _moments("optimizer.", state.optimizer)
    if state.discriminators is not None and state.discriminator_optimizer is not None:
        tensors |= _prefixed("discriminators.", state.discriminators.state_dict())
        tensors |= _moments("discriminator_optimizer.", state.discriminator_optimizer)
    facts = {name: getattr(state, name) for name in FACTS}
    facts["monitor"] = dataclasses.asdict(state.monitor)
    facts["model"] = state.codec.config.to_dict()
    data = safetensors.torch.save(
        {key: value.contiguous() for key, value in tensors.items()}, {"facts": json.dumps(facts)}
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"step_{state.step:09d}.safetensors", data)
    for old in find_checkpoints(folder)[keep:]:
        old.unlink()


def find_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, the newest first."""
    return sorted(folder.glob("step_*.safetensors"), reverse=True)


def load_newest(state: TrainState, found: list[Path]) -> None:
    """Fill ``state`` from the first of some checkpoints, the newest first, that is whole.

    Raises:
        ModelError: none is, or they are of another recipe.
    """
    for path in found:
        try:
            load_checkpoint(state, path)
            return
        except ModelError as error:
            if path == found[-1]:
                raise
            logger.warning("%s; trying the one before", error)


def load_checkpoint(state: TrainState, path: Path) -> None:
    """Fill ``state`` from ``path``.

    Raises:
        ModelError: it is damaged, or of another recipe.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for key, value in CodecConfig.from_dict(facts["model"]).to_dict().items():
            if value != (asked := state.codec.config.to_dict()[key]):
                raise ValueError(f"its model.{key} is {value}, the recipe says {asked}")
        state.codec.load_state_dict(_part(tensors, "codec."))
        state.average.load_state_dict(_part(tensors, "average."))
        _load_moments(state.optimizer, _part(tensors, "optimizer."))
        if state.discriminators is not None and state.discriminator_optimizer is not None:
            state.discriminators.load_state_dict(_part(tensors, "discriminators."))
            _load_moments(state.discriminator_optimizer, _part(tensors, "discriminator_optimizer."))
        state.usage.copy_(tensors["usage"])
        state.monitor = Monitor(**facts["monitor"])
        for name in FACTS:
            setattr(state, name, facts[name])
    except (
        OSError,
        safetensors.SafetensorError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} does not fit this recipe, or is damaged: {reason}") from error


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _moments(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimizer, by the names of the weights rather than by their order."""
    state = optimizer.state_dict()
    return {
        f"{prefix}{name}/{key}": value
        for index, name in _names(state).items()
        for key, value in state["state"].get(index, {}).items()
    }


def _load_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state = optimizer.state_dict()
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, moment = key.rpartition("/")
        moments.setdefault(name, {})[moment] = value
    names = _names(state)
    if moments and moments.keys() != set(names.values()):
        raise ValueError("it trained other weights: give the optimizer.freeze that it had")
    state["state"] = {index: moments[name] for index, name in names.items() if moments}
    optimizer.load_state_dict(state)


def _names(state: dict[str, Any]) -> dict[int, str]:
    """Names of the weights by their number in the state of an optimizer."""
    return {
        index: name
        for group in state["param_groups"]
        for index, name in zip(group["params"], group["param_names"], strict=True)
    }
