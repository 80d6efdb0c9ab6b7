"""Names of the engines. They are options of commands, so this module imports nothing."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

EngineName: TypeAlias = Literal["onnx", "torch"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
