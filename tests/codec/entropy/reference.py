"""The context model in NumPy: a reference for the one in C, with the same classes and functions.

Sums are held in float32, which is exact for integers below 2^24, in whatever order products are
added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.bitrate import ceil_div
from codec.entropy.context import ACTIVATION_BITS, LIMIT, NO_CODE, WEIGHT_BITS, ContextShape
from tests.codec.entropy.range_coder import TOTAL, TOTAL_BITS, RangeDecoder, RangeEncoder

Exact: TypeAlias = npt.NDArray[np.float32]
"""Integers, held in floats."""
Integers: TypeAlias = npt.NDArray[np.int64]

CODES_TOGETHER = 256
"""Codes that are looked up with one call: calls cost more than their work on a few, and many need
more memory than the caches hold."""

# Sums of the last layer are logarithms to the base 2. The table has this many steps for one bit,
# and ends where a probability would be 2^-16.
STEP_BITS = 7
_TABLE: npt.NDArray[np.float64] = np.round(2 ** (16 - np.arange(16 << STEP_BITS) / 2**STEP_BITS))
# Weights are stored with the shift of their sums. Powers of two do not make a float inexact.
_SHIFT = 2.0**-WEIGHT_BITS
_TABLE_SHIFT = 2.0 ** (STEP_BITS - WEIGHT_BITS - ACTIVATION_BITS)
# Arrays, because NumPy takes longer with scalars.
_LOWEST, _ZERO, _HIGHEST = (np.array(each, np.float32) for each in (-LIMIT, 0, LIMIT))


@dataclass(frozen=True)
class ContextState:
    """What a context model remembers of the frames before.

    Attributes:
        entries: ``[N, 1, K * d]`` of the last frame.
        layers: ``[N, dilation, width]``, the newest inputs of each convolution.
    """

    entries: Exact
    layers: tuple[Exact, ...]

    def of_rows(self, rows: npt.NDArray[Any]) -> ContextState:
        """The state of some of the sequences."""
        return ContextState(self.entries[rows], tuple(each[rows] for each in self.layers))


class Product(NamedTuple):
    """A matrix product, or several, with the shift of its sums.

    Attributes:
        matrix: ``[..., inputs, outputs]``.
        bias: ``[..., outputs]``, added to the sums.
    """

    matrix: Exact
    bias: Exact

    def __call__(self, x: Exact) -> Exact:
        """Shifted sums, not rounded yet."""
        sums: Exact = x @ self.matrix
        sums += self.bias
        return sums

    def of_outputs(self, count: int) -> Product:
        """The product for the first outputs alone."""
        return Product(self.matrix[..., :count], self.bias[..., :count])


class Codebook(NamedTuple):
    """The weights of one codebook; matrices with the shift of their sums.

    Attributes:
        hidden: hidden units to hidden units, ``[units, units]``.
        first: hidden units to values of the first digit, ``[units, values]``.
        second: the same for the second digit, after each value of the first digit, ``[first,
            units, values]``.
        entries: ``[codebook_size, entry_dim]``, by place.
        inner: ``[k * entry_dim, units]``, entries of the codes before it to its hidden units.
        codes: code of each place.
    """

    hidden: Exact
    first: Exact
    second: Exact
    entries: Exact
    inner: Exact
    codes: Integers

    def second_sums(self, units: Exact, first: list[int]) -> Exact:
        """Sums ``[N, values]`` of the second digit after first digits ``[N]``."""
        sums: Exact = (units[:, None] @ self.second.take(first, axis=0))[:, 0]
        return sums


class ReferenceModel:
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
    """

    def __init__(
        self, shape: ContextShape, tensors: Mapping[str, npt.NDArray[Any]], identity: bytes = b""
    ) -> None:
        self.shape = shape
        self.identity = identity
        self._places: Integers = tensors["order"].astype(np.int64)
        self._entries = tensors["entries"].astype(np.float32)
        weights = {
            name: _weights(
                tensors[name],
                tensors[f"{name}_bias"],
                _TABLE_SHIFT if name in ("counts", "first", "second") else _SHIFT,
            )
            for name in shape.products
        }
        products = {
            name: Product(each[:-1], each[-1]) for name, each in weights.items() if each.ndim == 2
        }
        self._past_layers = [
            (products[f"taps_{number}"], products[f"project_{number}"])
            for number in range(len(shape.dilations))
        ]
        self._past_entries, self._counts = products["past"], products["counts"]
        # After the hidden units of each codebook comes one that is always 1. Its weights are what
        # is added to the sums: an addition of its own would take as long as a product here.
        self._num_units = shape.hidden + 1
        matrix, bias = products["context"]
        self._context = Product(self._with_unit(matrix, 0), self._with_unit(bias, 1))
        self._inner = self._with_unit(products["inner"].matrix, 0)
        self._hidden = np.insert(weights["hidden"], shape.hidden, 0, axis=-1)
        self._hidden[:, -1, -1] = 1
        self._first, self._second = weights["first"], weights["second"]
        self._books = []
        for k, places in enumerate(self._places):
            codes = np.argsort(places)
            self._books.append(
                Codebook(
                    hidden=self._hidden[k],
                    first=self._first[k],
                    second=self._second[k],
                    entries=self._entries[k, codes],
                    inner=self._inner[: k * shape.entry_dim, self._units_of(k)].copy(),
                    codes=codes,
                )
            )

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
            codes: ``[N, K, T]``, `NO_CODE` where one is absent. Nothing is coded for frames without
                any code.
            state: from `init_state` or the call before.
            variable: whether frames may have different numbers of codes, at least one.

        Returns:
            Starts and frequencies ``[N, T, 1 + 2 * K]`` of the number of codes and of their digits,
            in the order of coding, and the state after these frames. What is not coded has a
            frequency of `TOTAL`.
        """
        rows, num_codebooks, num_frames = codes.shape
        by_frame, numbers = codes.transpose(0, 2, 1), np.arange(num_codebooks)
        entries = self._entries_of(by_frame)
        x, after = self._known(entries, state)
        width, known = num_codebooks * self._num_units, num_codebooks * self.shape.entry_dim
        sums = self._context.of_outputs(width)(x)
        sums += entries[..., :known] @ self._inner[:known, :width]
        of_counts = np.zeros((2, rows * num_frames, 1), np.int64)
        if variable:
            counts = (by_frame >= 0).sum(2).reshape(-1)
            logarithms = self._counts.of_outputs(num_codebooks)(x).reshape(-1, num_codebooks)
            of_counts[..., 0] = _intervals(logarithms, np.maximum(counts - 1, 0))
            of_counts[:, counts == 0] = 0
        of_digits = self._digit_intervals(
            sums.reshape(-1, num_codebooks, self._num_units).transpose(1, 0, 2),
            self._places[numbers, by_frame].reshape(-1, num_codebooks).T,
            by_frame.reshape(-1, num_codebooks).T >= 0,
        )
        found = np.concatenate((of_counts, of_digits), axis=2)
        found[1][found[1] == 0] = TOTAL
        starts, frequencies = found.reshape(2, rows, num_frames, 1 + 2 * num_codebooks)
        return starts, frequencies, after

    def state_after(self, codes: Integers) -> ContextState:
        """The state after the first frames of sequences, whose codes ``[N, K, T]`` are known."""
        state = self.init_state(len(codes))
        return self._known(self._entries_of(codes.transpose(0, 2, 1)), state)[1]

    def _entries_of(self, codes: Integers) -> Exact:
        """Entries ``[N, T, K * d]`` of codes ``[N, T, k]``, zero for those that are absent."""
        shape, (rows, num_frames, count) = self.shape, codes.shape
        entries = np.zeros((rows, num_frames, shape.num_codebooks, shape.entry_dim), np.float32)
        entries[:, :, :count] = self._entries[np.arange(count), codes]
        entries[:, :, :count] *= codes[..., None] >= 0
        return entries.reshape(rows, num_frames, shape.num_codebooks * shape.entry_dim)

    def _known(self, entries: Exact, state: ContextState) -> tuple[Exact, ContextState]:
        """What is known before each frame, ``[N, T, width]``, and the state after them."""
        num_frames = entries.shape[1]
        past = np.concatenate((state.entries, entries), axis=1)
        x, layers = self._past(past[:, :num_frames], state.layers)
        return x, ContextState(past[:, num_frames:], layers)

    def _digit_intervals(
        self, sums: Exact, places: Integers, present: npt.NDArray[np.bool_]
    ) -> Integers:
        """Starts and frequencies ``[2, N, 2 * K]`` of the digits of codes, zeros for absent ones.

        Args:
            sums: ``[K, N, units]``, shifted sums of the hidden units.
            places: ``[K, N]``, of the codes.
            present: ``[K, N]``.
        """
        num_codebooks, count = places.shape
        first_values, second_values = self.shape.digits
        matrices = self._second.reshape(-1, self._num_units, second_values)
        found = np.zeros((2, count, num_codebooks, 2), np.int64)
        together = max(1, CODES_TOGETHER // max(1, count))
        for begin in range(0, num_codebooks, together):
            books = slice(begin, min(begin + together, num_codebooks))
            there = present[begin]  # who has any of these codes
            units = _units(sums[books, there], self._hidden[books])
            first, low = np.divmod(places[books, there], second_values)
            numbers = np.arange(len(first))[:, None] + begin
            after = matrices.take(numbers * first_values + first, axis=0)
            of_second = (units[:, :, None] @ after)[:, :, 0]
            of_first = _intervals(units @ self._first[books], first)
            both = np.stack((of_first, _intervals(of_second, low)), axis=-1)
            both *= present[books, there, None]
            found[:, there, books] = both.transpose(0, 2, 1, 3)
        return found.reshape(2, count, 2 * num_codebooks)

    def decode_frame(
        self,
        num_codebooks: int,
        state: ContextState,
        choose: Callable[[list[int], Integers], list[int]],
        *,
        variable: bool = False,
        present: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[Integers, ContextState]:
        """Decode the next frame of all sequences.

        Args:
            num_codebooks: number of codebooks, from the first one on.
            state: from `init_state` or the call before.
            choose: called with some rows ``[n]`` and the cumulative frequencies ``[n, values]`` of
                their next digit, returns the digits ``[n]``.
            variable: as in `code_intervals`.
            present: ``[N]``, which sequences have codes in this frame; all if None.

        Returns:
            Codes ``[N, K]``, and the state after this frame.
        """
        shape = self.shape
        x, layers = self._past(state.entries, state.layers)
        x = x[:, 0]
        sums = self._context.of_outputs(num_codebooks * self._num_units)(x)
        num_rows = len(sums)
        rows = list(range(num_rows))
        codes = np.full((num_rows, num_codebooks), NO_CODE)
        entries = np.zeros((num_rows, shape.num_codebooks * shape.entry_dim), np.float32)
        if present is not None and not present.all():
            x, sums = x[present], sums[present]
            rows = np.flatnonzero(present).tolist()
        counts = np.full(len(rows), num_codebooks)
        if variable and rows:
            logarithms = self._counts.of_outputs(num_codebooks)(x)
            counts = 1 + np.array(choose(rows, _ends(logarithms)))
        complete = set(counts.tolist())
        size = shape.digits[1]
        for k, book in enumerate(self._books[: counts.max(initial=0)]):
            if k in complete:
                there = counts > k
                counts, sums = counts[there], sums[there]
                rows = [row for row, stays in zip(rows, there.tolist(), strict=True) if stays]
            own_rows = slice(None) if len(rows) == num_rows else rows  # a slice is not copied
            known = entries[own_rows, : len(book.inner)]
            units = _units(sums[:, self._units_of(k)] + known @ book.inner, book.hidden)
            first = choose(rows, _ends(units @ book.first))
            second = choose(rows, _ends(book.second_sums(units, first)))
            places = [a * size + b for a, b in zip(first, second, strict=True)]
            codes[own_rows, k] = book.codes.take(places)
            own = slice(k * shape.entry_dim, (k + 1) * shape.entry_dim)
            entries[own_rows, own] = book.entries.take(places, axis=0)
        return codes, ContextState(entries[:, None], layers)

    def _units_of(self, k: int) -> slice:
        """The hidden units of a codebook among all."""
        return slice(k * self._num_units, (k + 1) * self._num_units)

    def _with_unit(self, outputs: Exact, value: int) -> Exact:
        """Outputs ``[..., K * hidden]`` with one more of this value for each codebook."""
        shape, before = self.shape, outputs.shape[:-1]
        each = outputs.reshape(*before, shape.num_codebooks, shape.hidden)
        return np.insert(each, shape.hidden, value, axis=-1).reshape(*before, -1)

    def _past(self, past: Exact, layers: Sequence[Exact]) -> tuple[Exact, tuple[Exact, ...]]:
        """What is known before each frame, ``[N, T, width]``, from entries of the one before it."""
        x = _activations(self._past_entries(past), _LOWEST)
        num_frames, kept = x.shape[1], []
        for layer, (taps, project) in zip(layers, self._past_layers, strict=True):
            seen = np.concatenate((layer, x), axis=1)
            kept.append(seen[:, num_frames:])
            both = np.concatenate((seen[:, :num_frames], x), axis=2)
            y = _activations(taps(both), _ZERO)
            x = x + _activations(project(y), _LOWEST)
            np.maximum(x, _LOWEST, out=x)
            np.minimum(x, _HIGHEST, out=x)
        return x, tuple(kept)


def _weights(matrix: npt.NDArray[Any], bias: npt.NDArray[Any], shift: float) -> Exact:
    """Weights ``[..., inputs + 1, outputs]`` with a shift; those of the last input are the bias."""
    *before, inputs, outputs = matrix.shape
    weights = np.empty((*before, inputs + 1, outputs), np.float32)
    weights[..., :-1, :], weights[..., -1, :] = matrix, bias
    weights *= shift
    return weights


def _activations(sums: Exact, lowest: Exact) -> Exact:
    """Activations from shifted sums, in their place."""
    np.floor(sums, out=sums)
    np.maximum(sums, lowest, out=sums)
    return np.minimum(sums, _HIGHEST, out=sums)


def _units(sums: Exact, hidden: Exact) -> Exact:
    """Hidden units ``[..., N, units]`` from shifted sums, which are changed."""
    return _activations(_activations(sums, _ZERO) @ hidden, _ZERO)


def _cumulative(sums: Exact) -> npt.NDArray[np.float64]:
    """Cumulative frequencies times a total: ``[..., 0, after each value, total]``, all integers.

    Sums ``[..., values]`` are logarithms of probabilities. A quotient with the total, rounded down,
    is a cumulative frequency. It may be found in float64, as exact as with integers and faster: the
    numbers are below 2^53, and a quotient that is no integer is at least 1 / total, 2^-24 or more,
    away from one, while rounding moves it by less than 2^-36.
    """
    below = np.maximum.reduce(sums, axis=-1, keepdims=True) - sums
    weights = _TABLE.take(below.astype(np.int64), mode="clip")
    cumulative: npt.NDArray[np.float64] = weights @ _summation(sums.shape[-1])
    return cumulative


@cache
def _summation(count: int) -> npt.NDArray[np.float64]:
    """What makes `_cumulative` of weights, with one product, which takes less time than its parts.

    ``TOTAL - count`` is shared by weight, and every value gets one more.
    """
    matrix = np.zeros((count, count + 2))
    matrix[:, 1:-1] = np.triu(np.full((count, count), TOTAL - count)) + np.arange(1, count + 1)
    matrix[:, -1] = 1
    return matrix


def _ends(sums: Exact) -> Integers:
    """Cumulative frequencies ``[N, values]`` from logarithms of probabilities; the last is `TOTAL`.

    Every value has a frequency of at least one.
    """
    cumulative = _cumulative(sums)
    return (cumulative[:, 1:-1] / cumulative[:, -1:]).astype(np.int64)


def _intervals(sums: Exact, digits: Integers) -> Integers:
    """Starts and frequencies ``[2, ...]`` of digits ``[...]``: those that `_ends` gives."""
    flat = digits.reshape(-1)
    cumulative = _cumulative(sums).reshape(flat.size, sums.shape[-1] + 2)
    around = cumulative[np.arange(flat.size), np.stack((flat, flat + 1))]
    found = (around / cumulative[:, -1]).astype(np.int64)
    found[1] -= found[0]
    return found.reshape(2, *digits.shape)


STAYS = TOTAL - TOTAL // 64
"""Frequency with which a frame has codes if, and only if, the frame before it in its row has."""


def encode_packets(
    model: ReferenceModel,
    codes: Integers,
    state: ContextState | None = None,
    *,
    segments: int = 1,
    variable: bool = False,
    pauses: bool = False,
) -> tuple[list[bytes], ContextState]:
    """Encode packets of equal length, each with a range coder of its own.

    Args:
        model: the context model.
        codes: ``[N, C, K, T]``: packets, channels, codebooks, frames; `NO_CODE` for absent ones.
        state: what the model remembers of the packets before, one row for each segment of each
            channel; nothing if None.
        segments: number of parts of a packet, each with ``ceil(T / segments)`` frames until they
            end. The context is reset in each, and they share the range coder as channels do, so
            that they can be decoded side by side.
        variable: whether frames may have different numbers of codes.
        pauses: whether frames may have none at all.

    Returns:
        The bytes of each packet, and the state after them.
    """
    packets, channels, num_codebooks, num_frames = codes.shape
    steps = ceil_div(num_frames, segments)
    if absent := segments * steps - num_frames:
        padding = ((0, 0), (0, 0), (0, 0), (0, absent))
        codes = np.pad(codes, padding, constant_values=NO_CODE)
    parts = codes.reshape(packets, channels, num_codebooks, segments, steps)
    rows = parts.transpose(0, 3, 1, 2, 4).reshape(
        packets * segments * channels, num_codebooks, steps
    )
    state = state or model.init_state(len(rows))
    starts, frequencies, state = model.code_intervals(rows, state, variable=variable)
    if pauses:
        own = _presence(rows[:, 0] >= 0, segments, channels, num_frames)
        starts, frequencies = (
            np.concatenate(each, axis=2) for each in zip(own, (starts, frequencies), strict=True)
        )
    return write_intervals(starts, frequencies, packets), state


def write_intervals(starts: Integers, frequencies: Integers, num_packets: int) -> list[bytes]:
    """The bytes of each packet, from `ReferenceModel.code_intervals` of all their rows."""
    rows, steps, digits = starts.shape
    # As they are decoded: each digit of all rows before the next one.
    ordered = [
        each.reshape(num_packets, rows // num_packets, steps * digits)
        .transpose(0, 2, 1)
        .reshape(num_packets, each.size // num_packets)
        for each in (starts, frequencies)
    ]
    payloads = []
    for symbols in zip(*(each.tolist() for each in ordered), strict=True):
        encoder = RangeEncoder()
        for start, frequency in zip(*symbols, strict=True):
            if frequency < TOTAL:
                encoder.encode(start, frequency)
        payloads.append(encoder.finish())
    return payloads


def decode_packets(
    model: ReferenceModel,
    payloads: Sequence[bytes],
    num_frames: Sequence[int],
    channels: int,
    num_codebooks: int | Sequence[int],
    state: ContextState | None = None,
    *,
    segments: int = 1,
    variable: bool = False,
    pauses: bool = False,
) -> tuple[list[Integers], ContextState]:
    """Decode packets side by side, frame after frame.

    Args:
        model: the context model that encoded them.
        payloads: the bytes of each packet.
        num_frames: number of frames of each packet.
        channels: number of channels.
        num_codebooks: number of codebooks, or one for each frame of packets without segments.
        state: as in `encode_packets`.
        segments: as in `encode_packets`.
        variable: as in `encode_packets`.
        pauses: as in `encode_packets`.

    Returns:
        Codes ``[C, K, T]`` of each packet, `NO_CODE` where one is absent, and the state after the
        longest ones.
    """
    rows = segments * channels
    lengths = _row_lengths(num_frames, segments).repeat(channels, axis=1).reshape(-1)
    state = state or model.init_state(len(lengths))
    longest = int(lengths.max(initial=0))
    counts = [num_codebooks] * longest if isinstance(num_codebooks, int) else num_codebooks
    most = num_codebooks if isinstance(num_codebooks, int) else max(num_codebooks)
    codes = np.full((len(lengths), most, longest), NO_CODE)
    # The rows of a packet share its decoder.
    coders = [each for payload in payloads for each in [RangeDecoder(payload)] * rows]
    running, present = np.arange(len(lengths)), np.ones(len(lengths), np.bool_)

    def choose(rows: list[int], cumulative: Integers) -> list[int]:
        return _symbols([coders[row] for row in rows], cumulative)

    for frame in range(longest):
        if not (there := lengths[running] > frame).all():
            running, state, present = running[there], state.of_rows(there), present[there]
            coders = [coder for coder, stays in zip(coders, there, strict=True) if stays]
        if pauses:
            ends = np.where(present[:, None], (TOTAL - STAYS, TOTAL), (STAYS, TOTAL))
            present = np.array(choose(list(range(len(running))), ends)) > 0
        codes[running, : counts[frame], frame], state = model.decode_frame(
            counts[frame], state, choose, variable=variable, present=present
        )
    found = []
    for index, count in enumerate(num_frames):
        steps = ceil_div(count, segments)
        own = codes[index * rows : (index + 1) * rows, :, :steps]
        parts = own.reshape(segments, channels, most, steps).transpose(1, 2, 0, 3)
        found.append(parts.reshape(channels, most, segments * steps)[:, :, :count])
    return found, state


def _symbols(coders: Sequence[RangeDecoder], cumulative: Integers) -> list[int]:
    """The next symbol of each decoder, from the cumulative frequencies ``[n, symbols]``."""
    if cumulative.shape[1] == 1:  # nothing to choose, and nothing was coded
        return [0] * len(coders)
    return [coder.decode(ends) for coder, ends in zip(coders, cumulative.tolist(), strict=True)]


def _row_lengths(num_frames: Sequence[int], segments: int) -> Integers:
    """Frames ``[N, segments]`` of the segments of each packet."""
    steps = np.array([ceil_div(count, segments) for count in num_frames], np.int64)[:, None]
    begins = np.arange(segments) * steps
    lengths: Integers = np.clip(np.array(num_frames)[:, None] - begins, 0, steps)
    return lengths


def _presence(
    present: npt.NDArray[np.bool_], segments: int, channels: int, num_frames: int
) -> tuple[Integers, Integers]:
    """Starts and frequencies ``[N, T, 1]`` of the digit that says whether a frame has codes.

    Args:
        present: ``[N, T]``, whether it has, for each row and its frames.
        segments: segments of a packet.
        channels: channels of a packet.
        num_frames: frames of a packet; nothing is coded for those of a row beyond it.
    """
    steps = present.shape[1]
    before = np.concatenate((np.ones_like(present[:, :1]), present[:, :-1]), axis=1)[:, :steps]
    frequencies = np.where(present == before, STAYS, TOTAL - STAYS)
    starts = np.where(present, TOTAL - frequencies, 0)
    segment = np.arange(len(present)) // channels % segments
    beyond = segment[:, None] * steps + np.arange(steps) >= num_frames
    frequencies[beyond], starts[beyond] = TOTAL, 0
    return starts[..., None], frequencies[..., None]


def rate_distortion_search(
    model: ReferenceModel,
    candidates: Integers,
    errors: npt.NDArray[np.float32],
    lambda_: float,
    segments: int = 1,
) -> Integers:
    """The candidates with the least sum of error and bits times lambda, frame after frame.

    Args:
        model: gives the bits of codes after those that were chosen before.
        candidates: ``[C, T, M, K]``, from `CodeSearch.candidates`.
        errors: ``[C, T, M]``, their weighted errors.
        lambda_: error that is as bad as one bit.
        segments: number of parts of the packet in which the context is reset.

    Returns:
        Codes ``[C, K, T]``.
    """
    channels, num_frames, count, num_codebooks = candidates.shape
    steps = ceil_div(num_frames, segments)
    chosen = np.empty((channels, num_codebooks, num_frames), np.int64)
    own = np.arange(channels)
    state = model.init_state(channels)
    for frame in range(num_frames):
        if frame % steps == 0:
            state = model.init_state(channels)
        rows = candidates[:, frame].reshape(channels * count, num_codebooks, 1)
        repeated = state.of_rows(own.repeat(count))
        _, frequencies, after = model.code_intervals(rows, repeated, variable=True)
        bits = (TOTAL_BITS - np.log2(frequencies)).sum(axis=(1, 2)).reshape(channels, count)
        best = np.argmin(errors[:, frame] + lambda_ * bits, axis=1)
        chosen[:, :, frame] = candidates[own, frame, best]
        state = after.of_rows(own * count + best)
    return chosen
