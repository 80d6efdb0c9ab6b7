"""Devices, precision and processes, which Lightning Fabric provides.

Under ``torchrun`` or ``fabric run`` the processes exist already and are used as they are; otherwise
they are started if there is more than one device. A recipe's batch size is per device.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException

from codec.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")


class Devices(NamedTuple):
    """What a run computes on."""

    kind: str = "auto"  # one of `DEVICES`
    number: int = 1  # of this machine; ignored for processes that ``torchrun`` has started


def make_fabric(
    precision: str, devices: Devices | None = None, *, find_unused_parameters: bool = False
) -> Fabric:
    """A launched Fabric: on return every process has its rank.

    Args:
        precision: ``fp32`` or ``bf16``.
        devices: what to compute on; the one that is found if None.
        find_unused_parameters: some weights have no gradient in some steps.

    Raises:
        ConfigError: there is no such device, or there are fewer.
    """
    device, num_devices = devices or Devices()
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
        strategy = DDPStrategy(find_unused_parameters=find_unused_parameters)
    # Lightning's messages are for its own developers.
    warnings.filterwarnings("ignore", module="lightning_fabric")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator="gpu" if device == "cuda" else device,
            devices=num_devices,
            num_nodes=num_nodes,
            strategy=strategy,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
        )
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot use {num_devices} x {device}: {reason}") from error
    if os.environ.get("LT_CLI_USED") != "1":  # otherwise it is launched already
        fabric.launch()
    if fabric.device.type == "cpu" and num_devices > 1:
        # All processes together use as many threads as one would.
        torch.set_num_threads(max(1, torch.get_num_threads() // num_devices))
    if not fabric.is_global_zero:
        logging.disable(logging.WARNING)  # the first process reports for all
    return fabric


def largest(fabric: Fabric, values: list[float]) -> list[float]:
    """The largest of each value over all processes."""
    if fabric.world_size == 1:
        return values
    stacked = torch.tensor(values, device=fabric.device)
    return _as_tensor(fabric.all_reduce(stacked, reduce_op="max")).tolist()


def mean(fabric: Fabric, tensor: torch.Tensor) -> torch.Tensor:
    """Mean of a tensor over all processes."""
    return _as_tensor(fabric.all_reduce(tensor))


def total(fabric: Fabric, tensor: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over all processes."""
    return _as_tensor(fabric.all_reduce(tensor, reduce_op="sum"))


def gather(fabric: Fabric, tensor: torch.Tensor) -> torch.Tensor:
    """Tensors of all processes, along a new first dimension if there are several."""
    return _as_tensor(fabric.all_gather(tensor))


def share_tensors(fabric: Fabric, tensors: list[torch.Tensor]) -> None:
    """Give every process the first one's values, in place."""
    if fabric.world_size > 1:
        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(fabric.broadcast(tensor))


def _as_tensor(value: object) -> torch.Tensor:
    """Fabric's collectives are annotated more widely than what they return."""
    assert isinstance(value, torch.Tensor)
    return value
