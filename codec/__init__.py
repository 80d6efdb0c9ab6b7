"""aecodec: a neural audio codec for speech and general audio at a few kilobits per second.

The public interface is listed in ``__init__.pyi``. Each name is imported when it is first used, so
that ``import codec`` is quick; only `Codec`, `load_codec` and `save_codec` import PyTorch, which
``pip install "aecodec[torch]"`` brings. Without it they are there as well, and say so when called.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, which takes as long to import as all before Ctrl-C is heard
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.2.0.dev0"


def __getattr__(name: str) -> Any:
    if "__all__" not in globals():
        from lazy_loader import attach_stub  # not at once, for the same reason

        globals()["_import"], _, globals()["__all__"] = attach_stub(__name__, __file__)
    if name == "__all__":
        return globals()[name]
    if name not in globals()["__all__"]:
        raise AttributeError(f"module 'codec' has no attribute {name!r}")
    from codec.errors import MissingPackageError, optional_packages

    try:
        with optional_packages(f"codec.{name}", "torch"):
            return globals()["_import"](name)
    except MissingPackageError as error:
        return _missing(name, error)


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})


def _missing(name: str, error: Exception) -> type:
    """What stands for a class or function that cannot be imported: it raises when it is called."""

    def __new__(cls: type, *_: Any, **__: Any) -> Any:
        raise error

    return type(name, (), {"__new__": __new__, "__doc__": str(error)})
