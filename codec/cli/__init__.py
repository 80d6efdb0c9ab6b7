"""The ``aecodec`` command."""

from __future__ import annotations

TYPE_CHECKING = False  # see `codec`
if TYPE_CHECKING:
    from typing import Any

    from codec.cli.app import main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    if name != "main":
        raise AttributeError(f"module 'codec.cli' has no attribute {name!r}")
    # Not at once: `codec.cli.__main__` has something to do before.
    from codec.cli.app import main

    return main
