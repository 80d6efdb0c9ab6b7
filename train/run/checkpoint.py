"""Checkpoints of a training run: safetensors files, written atomically; the last k are kept.

They are private to ``train`` and are not model folders, which `aecodec encode --model` reads.
(Fabric could write checkpoints too, but by pickling.)
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

from codec.arguments import check_number, check_whole, shown
from codec.config import CodecConfig
from codec.errors import CodecError, ModelError
from codec.io.outputs import write_atomically
from train.run.explosion import ExplosionGuard
from train.run.schedule import Monitor
from train.run.state import RunningMeans, TrainState

logger = logging.getLogger(__name__)


def save_checkpoint(state: TrainState, folder: Path, keep: int) -> None:
    """Write ``folder/step_N.safetensors`` and remove all but the last ``keep`` of them."""
    tensors = {"usage": state.codebooks.usage}
    tensors |= _prefixed("codec.", state.codec.state_dict())
    tensors |= _prefixed("average.", state.average.codec.state_dict())
    tensors |= _moments("optimizer.", state.optimizer)
    if state.adversary is not None:
        tensors |= _prefixed("discriminators.", state.adversary.discriminators.state_dict())
        tensors |= _moments("discriminator_optimizer.", state.adversary.optimizer)
    data = safetensors.torch.save(
        {key: value.contiguous() for key, value in tensors.items()},
        {"facts": json.dumps(_facts(state))},
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"step_{state.step:09d}.safetensors", data)
    for old in find_checkpoints(folder)[keep:]:
        old.unlink()


def find_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, newest first; files of other names are left alone."""
    found = (each for each in folder.glob("step_*.safetensors") if each.is_file())
    return sorted((each for each in found if each.stem[5:].isdecimal()), reverse=True)


def load_newest(state: TrainState, found: list[Path]) -> None:
    """Fill ``state`` from the newest checkpoint that is not damaged.

    Args:
        state: filled in place.
        found: checkpoints, newest first.

    Raises:
        ModelError: all are damaged, or they are of another recipe.
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
            facts = _checked(json.loads(file.metadata()["facts"]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for key, value in CodecConfig.from_dict(facts["model"]).to_dict().items():
            if value != (asked := state.codec.config.to_dict()[key]):
                raise ValueError(f"its model.{key} is {value}, the recipe says {asked}")
        state.codec.load_state_dict(_part(tensors, "codec."))
        state.average.codec.load_state_dict(_part(tensors, "average."))
        _load_moments(state.optimizer, _part(tensors, "optimizer."))
        if state.adversary is not None:
            state.adversary.discriminators.load_state_dict(_part(tensors, "discriminators."))
            _load_moments(state.adversary.optimizer, _part(tensors, "discriminator_optimizer."))
        state.codebooks.usage.copy_(tensors["usage"])
        _restore(state, facts)
    except (
        AttributeError,
        CodecError,
        OSError,
        safetensors.SafetensorError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} does not fit this recipe, or is damaged: {reason}") from error


def _facts(state: TrainState) -> dict[str, Any]:
    """What a state has besides tensors."""
    return {
        "model": state.codec.config.to_dict(),
        "fingerprint": [state.codec.fingerprint.hex(), state.codec.fingerprinted.hex()],
        "step": state.step,
        "seconds": state.seconds,
        "monitor": dataclasses.asdict(state.monitor),
        "guard": dataclasses.asdict(state.guard),
        "means": state.means.sums,
        "balancer": state.balancer.state,
        "pretrained_codebooks": state.codebooks.pretrained,
        "pretrained_discriminators": state.adversary is not None and state.adversary.pretrained,
    }


def _checked(facts: Any) -> dict[str, Any]:
    """The facts of a checkpoint, or an error if one of them is of another type."""
    check_whole("step", facts["step"], 0, 2**53)
    check_number("seconds", facts["seconds"], 0, 1e12)
    for key in ("monitor", "guard", "means", "balancer"):
        if not isinstance(facts[key], dict):
            raise TypeError(f"{key} is {shown(facts[key])}: it must be a table")
    for kind, name in ((Monitor, "monitor"), (ExplosionGuard, "guard")):
        for key, value in dataclasses.asdict(kind(**facts[name])).items():
            if key not in ("best", "typical_loss"):
                check_whole(key, value, 0, 2**53)
            elif value is not None:
                check_number(key, value, -1e300, 1e300)
    pairs = list(facts["means"].values())
    numbers = [*facts["balancer"].values(), *(each for pair in pairs for each in pair)]
    if any(type(each) not in (int, float) for each in numbers) or any(len(p) != 2 for p in pairs):
        raise TypeError("its means are no numbers")
    for key in ("pretrained_codebooks", "pretrained_discriminators"):
        if not isinstance(facts[key], bool):
            raise TypeError(f"{key} is {shown(facts[key])}: it must be true or false")
    return dict(facts)


def _restore(state: TrainState, facts: dict[str, Any]) -> None:
    state.step, state.seconds = facts["step"], facts["seconds"]
    for codec in (state.codec, state.average.codec):
        # Earlier versions have none: their models have the fingerprint of their weights.
        known = facts.get("fingerprint", ["", ""])
        codec.fingerprint, codec.fingerprinted = map(bytes.fromhex, known)
    state.monitor = Monitor(**facts["monitor"])
    state.guard = ExplosionGuard(**facts["guard"])
    state.means = RunningMeans(facts["means"])
    state.balancer.state = facts["balancer"]
    state.codebooks.pretrained = facts["pretrained_codebooks"]
    if state.adversary is not None:
        state.adversary.pretrained = facts["pretrained_discriminators"]


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
