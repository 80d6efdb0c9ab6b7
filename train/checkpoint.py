"""The resumable state of a training run: one safetensors file, written atomically.

Private to ``train``; the model folder that `aecodec encode --model` reads is another thing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from codec.errors import ModelError
from codec.folder import write_atomically
from codec.model import Codec


@dataclass
class TrainState:
    """Everything that changes during a run.

    No random state is among it: the draws of step n follow from the recipe's seed and n alone.

    Attributes:
        codec: the model being trained.
        average: its weights, averaged over the last steps; this is what gets saved and used.
        optimizer: AdamW over ``codec``.
        usage: decayed counts of each code's use, ``[K, codebook_size]``.
        step: optimizer steps done.
        seconds: time spent in training, summed over resumptions.
        fine_tuned: the run started from a trained model, whose codebooks are kept.
    """

    codec: Codec
    average: Codec
    optimizer: torch.optim.AdamW
    usage: Tensor
    step: int = 0
    seconds: float = 0.0
    fine_tuned: bool = False


def save_checkpoint(state: TrainState, path: Path) -> None:
    """Write ``state`` to ``path``; an interruption leaves the previous checkpoint."""
    tensors = {"usage": state.usage}
    tensors |= {f"codec.{k}": v for k, v in state.codec.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
    facts = {
        "step": state.step,
        "seconds": state.seconds,
        "fine_tuned": state.fine_tuned,
    }
    data = safetensors.torch.save(
        {k: v.contiguous() for k, v in tensors.items()}, {"facts": json.dumps(facts)}
    )
    write_atomically(path, data)


def load_checkpoint(state: TrainState, path: Path) -> None:
    """Fill ``state`` from ``path``.

    Raises:
        ModelError: no checkpoint there, or one of another recipe.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        moments: dict[int, dict[str, Tensor]] = {}
        for key in [key for key in tensors if key.startswith("optimizer.")]:
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = tensors[key]
        state.codec.load_state_dict(_part(tensors, "codec."))
        state.average.load_state_dict(_part(tensors, "average."))
        groups = state.optimizer.state_dict()["param_groups"]
        state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        state.usage = tensors["usage"]
        state.step, state.seconds = int(facts["step"]), float(facts["seconds"])
        state.fine_tuned = bool(facts["fine_tuned"])
    except FileNotFoundError as error:
        raise ModelError(f"nothing to resume: there is no {path}") from error
    except (safetensors.SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} does not fit this recipe, or is damaged: {reason}") from error


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
