"""The library of the core, loaded by ctypes: its functions, and its errors as exceptions."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from codec.errors import CodecError, ConfigError, ModelError, NotEnoughMemoryError

INTERFACE = 5
"""``AEC_INTERFACE`` of ``include/aecodec.h``, for which this module is written."""

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
PATH = Path(__file__).parent / "_lib" / f"aecodec{_SUFFIX}"
"""The compiled library."""
BUILD = "run 'pip install .' or, in a checkout, 'python codec/core/backend.py'"


MOST_LEVELS, MOST_UNITS, HIGH_PASS_STATE = 8, 16, 13
"""``AEC_MOST_LEVELS``, ``AEC_MOST_UNITS`` and ``AEC_HIGH_PASS_STATE``."""


class ContextSizes(ctypes.Structure):
    """``aec_context_sizes``."""

    _fields_ = [
        (name, ctypes.c_uint32)
        for name in ("num_codebooks", "codebook_size", "entry_dim", "width", "hidden")
    ]


class Packets(ctypes.Structure):
    """``aec_packets``."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("num_packets", "channels", "num_codebooks")),
        *((name, ctypes.c_uint32) for name in ("num_frames", "segments")),
        *((name, ctypes.c_int32) for name in ("variable", "pauses")),
    ]


class Config(ctypes.Structure):
    """``aec_config``."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("sample_rate", "channels", "lapped_transform")),
        *((name, ctypes.c_int32) for name in ("kernel_size", "latent_dim", "num_codebooks")),
        *((name, ctypes.c_int32) for name in ("codebook_size", "codebook_dim", "scalar_quantizer")),
        ("num_levels", ctypes.c_int32),
        *((name, ctypes.c_int32 * MOST_LEVELS) for name in ("strides", "encoder_channels")),
        *((name, ctypes.c_int32 * MOST_LEVELS) for name in ("decoder_channels", "encoder_depths")),
        ("decoder_depths", ctypes.c_int32 * MOST_LEVELS),
        ("encoder_dilations", ctypes.c_int32 * MOST_UNITS * MOST_LEVELS),
        ("decoder_dilations", ctypes.c_int32 * MOST_UNITS * MOST_LEVELS),
        *((name, ctypes.c_int32) for name in ("fine_stride", "fine_channels", "fine_depth")),
        ("fine_dilations", ctypes.c_int32 * MOST_UNITS),
    ]


class Tensor(ctypes.Structure):
    """``aec_tensor``."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int32),
        ("values", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
    ]


class BeamSizes(ctypes.Structure):
    """``aec_beam_sizes``."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("dim", "latent_dim", "num_candidates")]


_COUNT, _POINTER, _SIZE = ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t
_SHAPE = ctypes.POINTER(Packets)
# Types of NumPy stand for an array of such elements and, after it, their number.
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "aec_context_create": (
        ctypes.POINTER(ContextSizes),
        *(np.uint32, np.int8, np.int32, np.uint16, np.int64),
        ctypes.POINTER(_POINTER),
    ),
    "aec_context_advance": (_POINTER, *[_COUNT] * 3, np.int32, np.uint8, np.uint8),
    "aec_encode_packets": (
        *(_POINTER, _SHAPE),
        *(np.int32, np.uint8, np.uint8, np.uint32, np.float64, np.uint8),
    ),
    "aec_decode_packets": (
        *(_POINTER, _SHAPE, np.uint8, np.uint32, np.uint32, np.uint32),
        *(np.uint8, np.int32, np.uint8),
    ),
    "aec_search_codes": (
        *(_POINTER, _SHAPE, _COUNT),
        *(np.int32, np.float32, ctypes.c_double, np.uint32, np.uint8),
    ),
    "aec_model_create": (
        *(ctypes.POINTER(Config), ctypes.POINTER(Tensor), _SIZE, ctypes.POINTER(_POINTER)),
    ),
    "aec_coder_create": (_POINTER, ctypes.POINTER(_POINTER)),
    "aec_encoder_init": (_POINTER, _POINTER, _SIZE),
    "aec_decoder_init": (_POINTER, _POINTER, _SIZE),
    "aec_encode": (
        *(_POINTER, *[_SIZE] * 3, np.float32, *[_POINTER] * 2, _SIZE),
        *(np.int64, _POINTER, np.float32),
    ),
    "aec_decode": (*(_POINTER, *[_SIZE] * 3, np.int64, *[_POINTER] * 2, _SIZE, np.float32),),
    "aec_high_pass": (*[_COUNT] * 3, np.float32, np.float64, np.float32),
    "aec_measure_frames": (_COUNT, np.float32, np.float32, np.float32),
    "aec_levels_above": (_COUNT, _COUNT, np.float32, np.float32, np.float32),
    "aec_mean_spectrum": (_COUNT, np.float32, np.float32, np.float32),
    "aec_is_noise": (_COUNT, _COUNT, np.float32, np.float32, np.uint32, np.float32),
    "aec_find_pauses": (*[_COUNT] * 3, np.float32, np.float64, np.uint8, np.float32),
    "aec_slopes": (np.float64, np.float64, np.float64),
    "aec_lambda": (_COUNT, np.float64, *[ctypes.c_double] * 2, np.float64),
    "aec_rate_init": (*[ctypes.c_double] * 3, np.float64),
    "aec_rate_share": (*[_COUNT] * 2, ctypes.c_double, np.float64, np.float64),
    "aec_rate_follow": (*[_COUNT] * 2, ctypes.c_double, np.float64, np.float64),
    "aec_rate_spent": (_COUNT, *[ctypes.c_double] * 3, np.float64),
    "aec_beam_create": (
        ctypes.POINTER(BeamSizes),
        *(np.uint32, np.float32, np.float32, np.float32),
        ctypes.POINTER(_POINTER),
    ),
    "aec_beam_search": (_POINTER, np.float32, np.uint32, np.int32, np.float32),
}
_SIZES: dict[str, tuple[Any, ...]] = {
    "aec_context_state_size": (_POINTER,),
    "aec_context_scratch_size": (_POINTER, _SIZE),
    "aec_packet_capacity": (_SHAPE,),
    "aec_encoder_state_size": (_POINTER,),
    "aec_decoder_state_size": (_POINTER,),
    "aec_pauses_scratch": (_COUNT, _SIZE),
    "aec_rate_size": (ctypes.c_double, _COUNT, _COUNT),
}
"""Functions that return a size."""


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
    if (found := library.aec_interface()) != INTERFACE:
        raise ModelError(f"{PATH} has interface {found}, this version needs {INTERFACE}: {BUILD}")
    for name, kinds in (_FUNCTIONS | _SIZES).items():
        arguments: list[Any] = []
        for kind in kinds:
            arguments += (_POINTER, _SIZE) if _is_array(kind) else (kind,)
        getattr(library, name).argtypes = arguments
    for name in _SIZES:
        getattr(library, name).restype = _SIZE
    for name in ("context", "beam", "model", "coder"):
        destroy = getattr(library, f"aec_{name}_destroy")
        destroy.argtypes, destroy.restype = (_POINTER,), None
    library.aec_kernel.argtypes, library.aec_kernel.restype = (), ctypes.c_char_p
    return library


def call(name: str, *arguments: Any) -> None:
    """Call a function of the library that returns an error code.

    Args:
        name: its name.
        arguments: arrays of the right type, or None for none, and other arguments as they are.

    Raises:
        CodecError: it returned one.
    """
    function, kinds = _function(name)
    given: list[Any] = []
    for kind, argument in zip(kinds, arguments, strict=True):
        if kind is None:
            given.append(argument)
        elif argument is None:
            given += None, 0
        else:
            assert argument.dtype == kind and argument.flags.c_contiguous
            given += address(argument), argument.size
    if error := function(*given):
        raise _exception_of(error, name)


def address(array: npt.NDArray[Any]) -> int:
    """Where the elements of a contiguous array lie, which it must outlive."""
    try:  # a third of the time of array.ctypes.data
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # read-only, or without elements
        return int(array.ctypes.data)


@cache
def _function(name: str) -> tuple[Any, list[Any]]:
    """A function, and the types of its arrays; None for other arguments."""
    kinds = [kind if _is_array(kind) else None for kind in _FUNCTIONS[name]]
    return getattr(core(), name), kinds


def _is_array(kind: Any) -> bool:
    return issubclass(kind, np.generic)


_REASONS = {
    -1: "the sizes of arrays do not fit the model, or it is too large: use --backend torch",
    -4: "a code is beyond its codebook",
    -5: "the order of the context model's codes does not have each code once",
    -6: "a sum of the context model could be too large: fit it again",
    -7: "the weights do not fit config.json: copy the folder again",
}


def _exception_of(error: int, name: str) -> CodecError:
    """The exception for an ``AEC_ERROR_`` of the header."""
    if error == -2:
        return NotEnoughMemoryError("not enough memory for a model: close other programs")
    if error == -3:
        named = os.environ.get("AECODEC_KERNEL")
        return ConfigError(
            f"AECODEC_KERNEL is {named!r}, which this processor does not have: unset it"
        )
    return ModelError(f"{_REASONS[error]} ({name})")
