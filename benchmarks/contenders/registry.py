"""All contenders by name, discovered from the modules of this folder."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import benchmarks.contenders
from benchmarks.contenders.base import Contender
from codec.errors import CodecError


def contenders() -> dict[str, type[Contender]]:
    """Every contender class by its name.

    Every subclass of `Contender` with a ``name`` in a module of this folder is one. The order is
    that of the tables: those for all sounds, those for speech only, those that need weights; within
    these groups by module and by place in the module.

    Example:
        >>> list(contenders())[:4]
        ['aecodec', 'aecodec-constant', 'aecodec-plain', 'opus']
    """
    found = []
    folders = benchmarks.contenders.__path__
    for entry in sorted(pkgutil.iter_modules(folders), key=lambda entry: entry.name):
        module = importlib.import_module(f"{benchmarks.contenders.__name__}.{entry.name}")
        found += [value for value in vars(module).values() if _is_defined_in(value, module)]
    found.sort(key=lambda contender: (contender.needs_weights, contender.speech_only))
    return {contender.name: contender for contender in found}


def peers() -> dict[str, type[Contender]]:
    """All contenders but our own."""
    return {name: contender for name, contender in contenders().items() if not _is_ours(contender)}


def _is_ours(contender: type[Contender]) -> bool:
    return contender.__module__ == f"{benchmarks.contenders.__name__}.aecodec"


def _is_defined_in(value: object, module: object) -> bool:
    return (
        inspect.isclass(value)
        and issubclass(value, Contender)
        and "name" in vars(value)
        and inspect.getmodule(value) is module
    )


def find_contender(name: str) -> type[Contender]:
    """The contender class of this name.

    Raises:
        CodecError: there is no such contender.
    """
    known = contenders()
    if name not in known:
        raise CodecError(f"no codec {name!r}: choose from {', '.join(known)}")
    return known[name]
