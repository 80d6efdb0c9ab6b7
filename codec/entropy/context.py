"""`ContextModel`: how likely each code is, given the codes before it, in exact arithmetic.

Encoder and decoder must find the same probabilities to the last bit, on any machine, or everything
after the first difference decodes to garbage. So every number is an integer: weights of 8 bits,
activations of 8 bits, sums below 2^23. What follows a product is a shift that rounds down, a limit,
or a look-up in a table. The core in C computes it (``codec/core/src/context.c``).

    entries of the frame before -> dilated convolutions over past frames -> context
    context + entries of the codes before in this frame -> hidden units -> first, second digit

A code is written as two digits, its group of similar codes and its place in the group, which costs
less than one distribution over all codes. Entries of absent codes are zero, so a stream codes as
well without its upper codebooks. In streams of variable bitrate the number of codes of a frame is
coded before them, given the context.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.core.library import ContextSizes, call, core
from codec.errors import ModelError

Integers: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]

LIMIT = 127
"""Largest weight and largest activation."""
WEIGHT_BITS = 6
"""Weights count 1/64: a shift by this many bits follows a product."""
ACTIVATION_BITS = 5
"""Activations count 1/32."""
LARGEST_SUM = 2**23
"""Below this sums and their differences are exact in float32 as well, for other implementations."""

NO_CODE = -1
"""In place of a code that is absent: those of a frame's upper codebooks."""


@dataclass(frozen=True)
class ContextShape:
    """Sizes of a context model.

    Attributes:
        num_codebooks: codebooks of the codec.
        codebook_size: entries of a codebook, a power of two.
        entry_dim: numbers that stand for a code.
        width: channels of the convolutions over past frames.
        hidden: hidden units of each codebook.
        dilations: frames between the two taps of each convolution.

    Example:
        >>> shape = ContextShape(12, 1024, 12, width=160, hidden=64)
        >>> shape.digits
        (32, 32)
    """

    num_codebooks: int
    codebook_size: int
    entry_dim: int
    width: int
    hidden: int
    dilations: tuple[int, ...] = (1, 2, 4, 8)

    @property
    def digits(self) -> tuple[int, int]:
        """Values of the first and of the second digit of a code."""
        bits = self.codebook_size.bit_length() - 1
        return 1 << (bits + 1) // 2, 1 << bits // 2

    @property
    def products(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the matrices: inputs and outputs last, numbers of matrices before them."""
        k, d, w, h = self.num_codebooks, self.entry_dim, self.width, self.hidden
        first, second = self.digits
        shapes: dict[str, tuple[int, ...]] = {
            "past": (k * d, w),
            "counts": (w, k),
            "context": (w, k * h),
            "inner": (k * d, k * h),
            "hidden": (k, h, h),
            "first": (k, h, first),
            "second": (k, first, h, second),
        }
        for number in range(len(self.dilations)):
            shapes |= {f"taps_{number}": (2 * w, w), f"project_{number}": (w, w)}
        return shapes

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensors: matrices, what is added to their sums, entries, order of codes."""
        codes = (self.num_codebooks, self.codebook_size)
        biases = {f"{name}_bias": shape[:-2] + shape[-1:] for name, shape in self.products.items()}
        return self.products | biases | {"entries": (*codes, self.entry_dim), "order": codes}


class ContextModel:
    """Probabilities of the digits of codes.

    Sequences are rows: packets, channels, or both. Their codes ``[N, K, T]`` may have fewer
    codebooks than the model. Threads may share a model, and it can be copied and pickled.

    Args:
        shape: its sizes.
        tensors: integers by name, see `ContextShape.tensors`. ``order`` gives for each code its
            place among the codes sorted by group.
        identity: 8 bytes that identify it in streams, see `codec.entropy.context_file`.

    Attributes:
        shape: its sizes.
        identity: 8 bytes that identify it in streams.
        handle: the model in C.

    Raises:
        ModelError: a tensor is missing, has another shape or values of more than 8 bits, or a sum
            could exceed `LARGEST_SUM`.
    """

    def __init__(
        self, shape: ContextShape, tensors: Mapping[str, npt.NDArray[Any]], identity: bytes = b""
    ) -> None:
        _check(shape, tensors)
        names = shape.products
        self._create(
            shape,
            identity,
            _flat(tensors, (*names, "entries"), np.int8),
            _flat(tensors, [f"{name}_bias" for name in names], np.int32),
            _flat(tensors, ["order"], np.uint16),
        )

    def _create(
        self, shape: ContextShape, identity: bytes, *arrays: npt.NDArray[np.integer[Any]]
    ) -> None:
        self.shape, self.identity, self._arrays = shape, identity, arrays
        largest = np.zeros(len(shape.products), np.int64)
        self.handle = ctypes.c_void_p()
        sizes = ContextSizes(
            shape.num_codebooks, shape.codebook_size, shape.entry_dim, shape.width, shape.hidden
        )
        try:
            dilations = np.array(shape.dilations, np.uint32)
            call("aec_context_create", sizes, dilations, *arrays, largest, self.handle)
        except ModelError:
            for name, found in zip(shape.products, largest.tolist(), strict=True):
                if found >= LARGEST_SUM:
                    raise ModelError(
                        f"{name} of the context model could add up to {found}: sums are exact "
                        f"below {LARGEST_SUM}; fit it again"
                    ) from None
            raise
        # Not at exit, when threads may still compute.
        weakref.finalize(self, core().aec_context_destroy, self.handle).atexit = False

    def __getstate__(self) -> tuple[Any, ...]:
        return self.shape, self.identity, *self._arrays

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._create(*state)

    def init_state(self, rows: int) -> Bytes:
        """What is remembered before the first frame of sequences: ``[rows, bytes]``."""
        return np.zeros((rows, core().aec_context_state_size(self.handle)), np.uint8)

    def state_after(self, codes: Integers) -> Bytes:
        """The state after the first frames of sequences, whose codes ``[N, K, T]`` are known."""
        state = self.init_state(len(codes))
        given = np.ascontiguousarray(codes, np.int32)
        call("aec_context_advance", self.handle, *codes.shape, given, state, self.scratch(1))
        return state

    def scratch(self, rows: int) -> Bytes:
        """Memory that the functions of the core work in, for so many rows of a packet."""
        return np.empty(core().aec_context_scratch_size(self.handle, rows), np.uint8)


def _check(shape: ContextShape, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise a ModelError if a tensor is not what the shape says."""
    for name, expected in shape.tensors.items():
        if name not in tensors or tensors[name].shape != expected:
            raise ModelError(f"the context model has no {name} of shape {list(expected)}")
        if tensors[name].dtype.kind not in "iu":
            raise ModelError(
                f"{name} of the context model holds {tensors[name].dtype}, not integers"
            )
    if tensors["entries"].max() > LIMIT or tensors["entries"].min() < -LIMIT:
        raise ModelError(f"an entry of the context model is above {LIMIT}")


def _flat(
    tensors: Mapping[str, npt.NDArray[Any]], names: Iterable[str], kind: type[np.integer[Any]]
) -> npt.NDArray[np.integer[Any]]:
    """Tensors one after the other, in integers of a type that holds them."""
    limits = np.iinfo(kind)
    for name in names:
        held = tensors[name].dtype == kind
        if not held and not limits.min <= tensors[name].min() <= tensors[name].max() <= limits.max:
            raise ModelError(
                f"{name} of the context model has numbers beyond {limits.min} to {limits.max}: "
                "fit it again"
            )
    return np.concatenate([tensors[name].astype(kind, order="C").reshape(-1) for name in names])
