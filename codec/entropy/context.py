"""`ContextModel`: how likely each code is, given the codes before it, in exact arithmetic.

Encoder and decoder must find the same probabilities to the last bit, on any machine and with any
library, or everything after the first difference decodes to garbage. So every number here is an
integer: weights of 8 bits, activations of 8 bits, sums below 2^23. Products and sums of such
integers are exact in float32 in whatever order they are added (float32 holds every integer up to
2^24), so matrix products may be left to any library. What follows a product is a shift that rounds
down, a limit, or a look-up in a table.

    entries of the frame before -> dilated convolutions over past frames -> context
    context + entries of the codes before in this frame -> hidden units -> first, second digit

A code is written as two digits, its group of similar codes and its place in the group, which costs
less than one distribution over all codes. Entries of absent codes are zero, so a stream codes as
well without its upper codebooks. In streams of variable bitrate the number of codes of a frame is
coded before them, given the context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.entropy.range_coder import TOTAL
from codec.errors import ModelError

Exact: TypeAlias = npt.NDArray[np.float32]
"""Integers, held in floats."""
Integers: TypeAlias = npt.NDArray[np.int64]

LIMIT = 127
"""Largest weight and largest activation."""
WEIGHT_BITS = 6
"""Weights count 1/64: a shift by this many bits follows a product."""
ACTIVATION_BITS = 5
"""Activations count 1/32."""
LARGEST_SUM = 2**23
"""Below this the difference of two sums is exact as well."""

NO_CODE = -1
"""In place of a code that is absent: those of a frame's upper codebooks."""

# Sums of the last layer are logarithms to the base 2. The table has this many steps for one bit,
# and ends where a probability would be 2^-16.
STEP_BITS = 7
_TABLE_SHIFT = np.float32(2.0 ** (STEP_BITS - WEIGHT_BITS - ACTIVATION_BITS))
_SHIFT = np.float32(2.0**-WEIGHT_BITS)
_TABLE: Integers = np.round(2 ** (16 - np.arange(16 << STEP_BITS) / (1 << STEP_BITS))).astype(int)


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


@dataclass(frozen=True)
class ContextState:
    """What a context model remembers of the frames before.

    Attributes:
        entries: ``[N, 1, K * d]`` of the last frame.
        layers: ``[N, dilation, width]``, the newest inputs of each convolution.
    """

    entries: Exact
    layers: tuple[Exact, ...]


class Codebook(NamedTuple):
    """The weights of one codebook.

    Attributes:
        hidden: ``[hidden, hidden]``, with ``hidden_bias`` added.
        first: ``[hidden, values]`` of the first digit, with ``first_bias`` added.
        second: ``[values of the first digit, hidden, values]``, with ``second_bias`` added.
        entries: ``[codebook_size, entry_dim]``.
        inner: ``[entry_dim, hidden units of the codebooks after it]``.
        codes: code of each place.
    """

    hidden: Exact
    hidden_bias: Exact
    first: Exact
    first_bias: Exact
    second: Exact
    second_bias: Exact
    entries: Exact
    inner: Exact
    codes: Integers

    def units(self, sums: Exact) -> Exact:
        """Hidden units ``[N, hidden]`` from sums."""
        return _shift(_shift(sums, 0) @ self.hidden + self.hidden_bias, 0)

    def first_ends(self, units: Exact) -> Integers:
        """Cumulative frequencies ``[N, values]`` of the first digit, up to and with each value."""
        return _ends(units @ self.first + self.first_bias)

    def second_ends(self, units: Exact, first: Integers) -> Integers:
        """Those of the second digit, after the first digits ``[N]``."""
        sums = (units[:, None] @ self.second[first])[:, 0]
        return _ends(sums + self.second_bias[first])


class ContextModel:
    """Probabilities of the digits of codes.

    Sequences are rows: packets, channels, or both. Their codes ``[N, K, T]`` may have fewer
    codebooks than the model.

    Args:
        shape: its sizes.
        tensors: integers by name, see `ContextShape.tensors`. ``order`` gives for each code its
            place among the codes sorted by group.
        identity: 8 bytes that identify it in streams, see `codec.entropy.context_file`.

    Attributes:
        shape: its sizes.
        identity: 8 bytes that identify it in streams.

    Raises:
        ModelError: a tensor is missing or has another shape, or a sum could exceed `LARGEST_SUM`.
    """

    def __init__(
        self, shape: ContextShape, tensors: Mapping[str, npt.NDArray[Any]], identity: bytes = b""
    ) -> None:
        _check(shape, tensors)
        self.shape = shape
        self.identity = identity
        self._tensors = {name: tensors[name].astype(np.float32) for name in shape.tensors}
        self._places: Integers = tensors["order"].astype(np.int64)
        own = ("hidden", "hidden_bias", "first", "first_bias", "second", "second_bias", "entries")
        inner = self._tensors["inner"].reshape(shape.num_codebooks, shape.entry_dim, -1)
        self._books = [
            Codebook(
                **{name: self._tensors[name][k] for name in own},
                inner=inner[k, :, (k + 1) * shape.hidden :].copy(),
                codes=np.argsort(self._places[k]),
            )
            for k in range(shape.num_codebooks)
        ]

    def init_state(self, rows: int) -> ContextState:
        """The state before the first frame of ``rows`` sequences."""
        shape = self.shape
        entries = np.zeros((rows, 1, shape.num_codebooks * shape.entry_dim), np.float32)
        layers = (np.zeros((rows, each, shape.width), np.float32) for each in shape.dilations)
        return ContextState(entries, tuple(layers))

    def code_intervals(
        self, codes: Integers, state: ContextState, *, variable: bool = False
    ) -> tuple[Integers, Integers, ContextState]:
        """Where the digits of known codes lie among all frequencies, for encoding.

        Args:
            codes: ``[N, K, T]``, `NO_CODE` where one is absent.
            state: from `init_state` or the call before.
            variable: whether frames may have different numbers of codes.

        Returns:
            Starts and frequencies ``[N, T, 1 + 2 * K]`` of the number of codes and of their digits,
            in the order of coding, and the state after these frames. What is not coded has a
            frequency of `TOTAL`.
        """
        shape = self.shape
        rows, num_codebooks, num_frames = codes.shape
        by_frame = codes.transpose(0, 2, 1)
        present = by_frame >= 0
        numbers = np.arange(num_codebooks)
        entries = np.zeros((rows, num_frames, shape.num_codebooks, shape.entry_dim), np.float32)
        entries[:, :, :num_codebooks] = (
            self._tensors["entries"][numbers, by_frame] * present[..., None]
        )
        flat = entries.reshape(rows, num_frames, shape.num_codebooks * shape.entry_dim)
        past = np.concatenate((state.entries, flat), axis=1)
        x, layers = self._past(past[:, :num_frames], state.layers)
        sums = self._sums("context", x) + flat @ self._tensors["inner"]
        of_books = sums.reshape(rows * num_frames, shape.num_codebooks, shape.hidden)
        places = self._places[numbers, by_frame].reshape(-1, num_codebooks)
        first, second = np.divmod(places, shape.digits[1])
        found = np.empty((2, len(places), 1 + 2 * num_codebooks), np.int64)
        found[0], found[1] = 0, TOTAL
        if variable:
            counts = present.sum(2).reshape(-1)
            of_counts = self._sums("counts", x)[..., :num_codebooks]
            ends = _ends(of_counts.reshape(len(places), num_codebooks))
            found[:, :, 0] = _interval(ends, counts - 1)
        for k, book in enumerate(self._books[:num_codebooks]):
            there = present[..., k].reshape(-1)
            units = book.units(of_books[there, k])
            digits = first[there, k]
            found[:, there, 1 + 2 * k] = _interval(book.first_ends(units), digits)
            of_second = book.second_ends(units, digits)
            found[:, there, 2 + 2 * k] = _interval(of_second, second[there, k])
        starts, frequencies = found.reshape(2, rows, num_frames, 1 + 2 * num_codebooks)
        return starts, frequencies, ContextState(past[:, num_frames:], layers)

    def decode_frame(
        self,
        num_codebooks: int,
        state: ContextState,
        choose: Callable[[Integers, Integers], Integers],
        *,
        variable: bool = False,
    ) -> tuple[Integers, ContextState]:
        """Decode the next frame of all sequences.

        Args:
            num_codebooks: number of codebooks, from the first one on.
            state: from `init_state` or the call before.
            choose: called with some rows ``[n]`` and the cumulative frequencies ``[n, values]`` of
                their next digit, returns the digits ``[n]``.
            variable: as in `code_intervals`.

        Returns:
            Codes ``[N, K]``, and the state after this frame.
        """
        shape = self.shape
        x, layers = self._past(state.entries, state.layers)
        sums = self._sums("context", x)[:, 0]
        rows = np.arange(len(sums))
        codes = np.full((len(sums), num_codebooks), NO_CODE)
        entries = np.zeros((len(sums), shape.num_codebooks, shape.entry_dim), np.float32)
        counts = np.full(len(sums), num_codebooks)
        if variable:
            counts = 1 + choose(rows, _ends(self._sums("counts", x)[:, 0, :num_codebooks]))
        for k, book in enumerate(self._books[: counts.max(initial=0)]):
            there = counts > k
            if not there.all():
                rows, counts, sums = rows[there], counts[there], sums[there]
            units = book.units(sums[:, : shape.hidden])
            first = choose(rows, book.first_ends(units))
            second = choose(rows, book.second_ends(units, first))
            found = book.codes[first * shape.digits[1] + second]
            own = book.entries[found]
            codes[rows, k], entries[rows, k] = found, own
            sums = sums[:, shape.hidden :] + own @ book.inner
        return codes, ContextState(entries.reshape(len(codes), 1, -1), layers)

    def _past(self, past: Exact, layers: Sequence[Exact]) -> tuple[Exact, tuple[Exact, ...]]:
        """What is known before each frame, ``[N, T, width]``, from entries of the one before it."""
        x = _shift(self._sums("past", past), -LIMIT)
        num_frames, kept = x.shape[1], []
        for number, layer in enumerate(layers):
            seen = np.concatenate((layer, x), axis=1)
            kept.append(seen[:, num_frames:])
            taps = np.concatenate((seen[:, :num_frames], x), axis=2)
            y = self._sums(f"project_{number}", _shift(self._sums(f"taps_{number}", taps), 0))
            x = (x + _shift(y, -LIMIT)).clip(-LIMIT, LIMIT)
        return x, tuple(kept)

    def _sums(self, name: str, x: Exact) -> Exact:
        sums: Exact = x @ self._tensors[name] + self._tensors[f"{name}_bias"]
        return sums


def _shift(sums: Exact, lowest: int) -> Exact:
    """Activations from sums."""
    x = sums * _SHIFT
    np.floor(x, out=x)
    np.maximum(x, lowest, out=x)
    np.minimum(x, LIMIT, out=x)
    return x


def _ends(sums: Exact) -> Integers:
    """Cumulative frequencies ``[N, values]`` from logarithms of probabilities; the last is `TOTAL`.

    Every value has a frequency of at least one.
    """
    below = (sums.max(axis=1, keepdims=True) - sums) * _TABLE_SHIFT
    weights = _TABLE[np.minimum(below, len(_TABLE) - 1).astype(np.int64)].cumsum(axis=1)
    count = sums.shape[1]
    ends: Integers = weights * (TOTAL - count) // weights[:, -1:] + np.arange(1, count + 1)
    return ends


def _interval(ends: Integers, digits: Integers) -> tuple[Integers, Integers]:
    """Start and frequency of each digit ``[N]`` among cumulative frequencies ``[N, values]``."""
    rows = np.arange(len(digits))
    end = ends[rows, digits]
    start = np.where(digits > 0, ends[rows, digits - 1], 0)
    return start, end - start


def _check(shape: ContextShape, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise a ModelError unless every sum is exact."""
    for name, expected in shape.tensors.items():
        if name not in tensors or tensors[name].shape != expected:
            raise ModelError(f"the context model has no {name} of shape {list(expected)}")
        if tensors[name].dtype.kind not in "iu":
            raise ModelError(
                f"{name} of the context model holds {tensors[name].dtype}, not integers"
            )
    if not np.array_equal(
        np.sort(tensors["order"], axis=1),
        np.broadcast_to(np.arange(shape.codebook_size), tensors["order"].shape),
    ):
        raise ModelError("the order of the context model's codes does not have each code once")
    largest = {
        name: _largest_sums(tensors[name], tensors[f"{name}_bias"]) for name in shape.products
    }
    largest["context"] += largest["inner"]  # added up before they are shifted
    for name, sums in largest.items():
        if sums.max() >= LARGEST_SUM:
            raise ModelError(
                f"{name} of the context model could add up to {int(sums.max())}: sums are exact "
                f"below {LARGEST_SUM}; fit it again"
            )
    if np.abs(tensors["entries"].astype(np.int64)).max() > LIMIT:
        raise ModelError(f"an entry of the context model is above {LIMIT}")


def _largest_sums(matrix: npt.NDArray[Any], bias: npt.NDArray[Any]) -> Integers:
    sums: Integers = LIMIT * np.abs(matrix.astype(np.int64)).sum(axis=-2)
    return sums + np.abs(bias.astype(np.int64))
