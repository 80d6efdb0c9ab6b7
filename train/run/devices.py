"""Devices, precision and processes: all left to Lightning Fabric.

Under ``torchrun`` or ``fabric run`` the processes exist already and are used as they are; otherwise
more than one device starts them. A recipe's batch size is that of each device.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException

from codec.errors import ConfigError
from train.recipe.sections import TrainConfig

DEVICES = ("auto", "cpu", "cuda", "mps")


def make_fabric(recipe: TrainConfig, device: str = "auto", num_devices: int = 1) -> Fabric:
    """An engine that is launched: on return every process has its rank.

    Args:
        recipe: for its precision, and whether some weights rest at first.
        device: one of `DEVICES`.
        num_devices: in this machine.

    Raises:
        ConfigError: there is no such device, or there are fewer.
    """
    if device not in DEVICES:
        raise ConfigError(f"device {device!r} is unknown: give one of {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device that this PyTorch can use: give --device cpu")
    num_nodes = 1
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        num_devices = int(os.environ["LOCAL_WORLD_SIZE"])
        num_nodes = int(os.environ["WORLD_SIZE"]) // num_devices
    strategy: Any = "auto"
    if num_devices * num_nodes > 1:
        # Codebooks rest until the quantizer starts.
        strategy = DDPStrategy(find_unused_parameters=recipe.quantizer.start_step > 0)
    # What Lightning has to say is for its own developers.
    warnings.filterwarnings("ignore", module="lightning_fabric")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator="gpu" if device == "cuda" else device,
            devices=num_devices,
            num_nodes=num_nodes,
            strategy=strategy,
            precision="bf16-mixed" if recipe.run.precision == "bf16" else "32-true",
        )
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot use {num_devices} x {device}: {reason}") from error
    if os.environ.get("LT_CLI_USED") != "1":  # else it is launched already
        fabric.launch()
    if fabric.device.type == "cpu" and num_devices > 1:
        # Together the processes take no more threads than one would.
        torch.set_num_threads(max(1, torch.get_num_threads() // num_devices))
    if not fabric.is_global_zero:
        logging.disable(logging.WARNING)  # the first process speaks for all
    return fabric


def largest(fabric: Fabric, values: list[float]) -> list[float]:
    """The largest of each value over all processes."""
    if fabric.world_size == 1:
        return values
    reduced = fabric.all_reduce(torch.tensor(values, device=fabric.device), reduce_op="max")
    assert isinstance(reduced, torch.Tensor)
    return reduced.tolist()


def share_tensors(fabric: Fabric, tensors: list[torch.Tensor]) -> None:
    """Give every process the first one's values, in place."""
    if fabric.world_size > 1:
        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(fabric.broadcast(tensor))
