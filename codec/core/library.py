"""The library of the core, loaded by ctypes: its functions, and its errors as exceptions."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path

from codec.errors import ModelError

INTERFACE = 1
"""``AEC_INTERFACE`` of ``include/aecodec.h``, for which this module is written."""

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
PATH = Path(__file__).parent / "_lib" / f"aecodec{_SUFFIX}"
"""The compiled library."""
BUILD = "run 'pip install .' or, in a checkout, 'python codec/core/backend.py'"


@cache
def core() -> ctypes.CDLL:
    """The library, with its functions declared.

    Raises:
        ModelError: it was not built, or from other sources.
    """
    try:
        library = ctypes.CDLL(str(PATH))
    except OSError as error:
        raise ModelError(f"the compiled core cannot be loaded from {PATH}: {BUILD}") from error
    library.aec_interface.argtypes = ()
    if (found := library.aec_interface()) != INTERFACE:
        raise ModelError(f"{PATH} has interface {found}, this version needs {INTERFACE}: {BUILD}")
    return library
