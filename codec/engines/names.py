"""Names of the backends. They are options of commands, so this module imports nothing."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Backend: TypeAlias = Literal["core", "torch"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
