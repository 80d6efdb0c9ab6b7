"""Random calls of every function of the core, most of which should be refused.

    .ci/sanitize --calls 100000

builds the core with sanitizers and runs this: reads and writes beyond an array end it with a
report. Arrays are as long as they say; the sizes, codes and bytes may be anything.
"""

from __future__ import annotations

import argparse
import ctypes
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from codec.core import library
from codec.core.library import BeamSizes, ContextSizes, Packets, call, core
from codec.entropy.context import ContextModel, ContextShape
from codec.errors import CodecError
from codec.highpass import STATE_SIZE
from tests.codec.core.kernels import KERNELS
from tests.codec.entropy.oracle import random_context

HOSTILE = (0, 1, 2, 255, 65_535, 65_536, 65_537, 2**31 - 1, 2**31, 2**32 - 1)
NUMBERS = (*HOSTILE, *range(9))
"""What a size is changed to."""
MODELS = 50
"""Calls for each model."""
BROKEN = 0.5
"""Share of the calls with something wrong."""


class Fuzzer:
    """Random calls.

    Args:
        seed: of all choices.
        variants: further calls with the arguments of one, and other numbers among them.

    Attributes:
        outcomes: how often each function was accepted and refused.
    """

    def __init__(self, seed: int, variants: int = 0) -> None:
        self._variants = variants
        self._rng = np.random.default_rng(seed)
        self.outcomes: Counter[tuple[str, bool]] = Counter()
        self._create_beam()

    def run(self, calls: int) -> None:
        """Make so many calls."""
        functions = (
            *(self._create, self._encode, self._decode, self._advance, self._search),
            *(self._high_pass, self._measure, self._levels_above, self._spectrum, self._slopes),
            *(self._create_beam, self._search_beam),
            *(self._is_noise, self._pauses, self._lambda, self._rate),
        )
        for number in range(calls):
            if number % MODELS == 0:
                self._new_model()
            name, arguments = functions[self._rng.integers(len(functions))]()
            if self._rng.random() < BROKEN:
                self._break(arguments)
            self._count(name, arguments)
            self._vary(name, arguments)

    def _vary(self, name: str, arguments: list[Any]) -> None:
        """Call it again with the same arrays, which takes little time, and with other numbers."""
        if name.endswith("_create"):
            return
        numbers = [
            place
            for place, value in enumerate(arguments)
            if isinstance(value, int | ctypes.Structure)
        ]
        for _ in range(self._variants if numbers else 0):
            place = numbers[self._whole(0, len(numbers))]
            changed = list(arguments)
            if isinstance(value := changed[place], ctypes.Structure):
                changed[place] = value = type(value).from_buffer_copy(value)
                fields = [field[0] for field in value._fields_]
                number = NUMBERS[self._whole(0, len(NUMBERS))]
                setattr(value, fields[self._whole(0, len(fields))], number & 0x7FFFFFFF)
            else:
                changed[place] = NUMBERS[self._whole(0, len(NUMBERS))]
            self._count(name, changed)

    def _count(self, name: str, arguments: list[Any]) -> None:
        try:
            call(name, *arguments)
        except CodecError:
            self.outcomes[name, False] += 1
        else:
            self.outcomes[name, True] += 1

    def _whole(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high))

    def _new_model(self) -> None:
        os.environ["AECODEC_KERNEL"] = KERNELS[self._whole(0, len(KERNELS))]
        if core().aec_kernel() is None:
            os.environ["AECODEC_KERNEL"] = ""
        self._shape = ContextShape(
            num_codebooks=self._whole(1, 6),
            codebook_size=2 ** self._whole(1, 8),
            entry_dim=self._whole(1, 9),
            width=self._whole(1, 50),
            hidden=self._whole(1, 40),
            dilations=tuple(self._rng.integers(1, 6, self._whole(0, 4)).tolist()),
        )
        tensors = random_context(self._rng, self._shape, largest=int(self._rng.choice([9, 127])))
        self._model = ContextModel(self._shape, tensors)

    def _create(self) -> tuple[str, list[Any]]:
        shape = self._shape
        _, _, *arrays = self._model.__getstate__()
        sizes = ContextSizes(
            shape.num_codebooks, shape.codebook_size, shape.entry_dim, shape.width, shape.hidden
        )
        owned = _Owned(ctypes.c_void_p(), core().aec_context_destroy)
        arrays = [self._changed(each) for each in arrays]
        dilations = np.array(shape.dilations, np.uint32)
        largest = np.zeros(len(shape.products), np.int64)
        return "aec_context_create", [sizes, dilations, *arrays, largest, owned]

    def _encode(self) -> tuple[str, list[Any]]:
        shape, rows = self._packets(self._whole(0, 4))
        size = (shape.num_packets, shape.channels, shape.num_codebooks, shape.num_frames)
        data = np.empty(shape.num_packets * core().aec_packet_capacity(shape), np.uint8)
        bits = np.empty(shape.num_packets * shape.num_frames * self._whole(0, 2))
        lengths = np.empty(shape.num_packets, np.uint32)
        arrays = [self._codes(size), self._states(shape.num_packets * rows), data, lengths, bits]
        return "aec_encode_packets", [self._model.handle, shape, *arrays, self._scratch(rows)]

    def _decode(self) -> tuple[str, list[Any]]:
        shape, rows = self._packets(self._whole(0, 4))
        lengths = self._rng.integers(0, 40, shape.num_packets).astype(np.uint32)
        frames = self._rng.integers(0, shape.num_frames + 1, shape.num_packets).astype(np.uint32)
        books = self._rng.integers(0, shape.num_codebooks + 1, shape.num_frames).astype(np.uint32)
        data = np.frombuffer(self._rng.bytes(int(lengths.sum())), np.uint8).copy()
        size = (shape.num_packets, shape.channels, shape.num_codebooks, shape.num_frames)
        arrays = [data, lengths, frames, books, self._states(shape.num_packets * rows)]
        codes = np.empty(size, np.int32)
        return "aec_decode_packets", [
            *(self._model.handle, shape, *arrays, codes, self._scratch(rows))
        ]

    def _advance(self) -> tuple[str, list[Any]]:
        rows, books, frames = self._whole(0, 5), self._books(), self._whole(0, 80)
        arrays = [self._codes((rows, books, frames)), self._states(rows), self._scratch(1)]
        return "aec_context_advance", [self._model.handle, rows, books, frames, *arrays]

    def _search(self) -> tuple[str, list[Any]]:
        shape, _ = self._packets(1)
        count = self._whole(1, 9)
        size = (shape.channels, shape.num_frames, count)
        errors = self._rng.random(size, np.float32)
        errors[self._rng.random(size) < 0.1] = self._rng.choice([np.nan, np.inf, -np.inf, 1e-42])
        lambda_ = float(self._rng.choice([0, 0.1, 1e300, np.nan, np.inf]))
        chosen = np.empty(size[:2], np.uint32)
        arrays = [self._codes((*size, shape.num_codebooks)), errors, lambda_, chosen]
        scratch = self._scratch(shape.channels + count)
        return "aec_search_codes", [self._model.handle, shape, count, *arrays, scratch]

    def _high_pass(self) -> tuple[str, list[Any]]:
        rate, hop, channels = self._whole(1, 50_000), self._whole(1, 70), self._whole(1, 4)
        audio = self._floats(channels * hop * self._whole(0, 4))
        state = self._floats(channels * STATE_SIZE).astype(np.float64)
        return "aec_high_pass", [rate, hop, channels, audio, state, np.empty_like(audio)]

    def _measure(self) -> tuple[str, list[Any]]:
        size, frames = self._whole(1, 70), self._whole(0, 20)
        levels, weights = np.empty((2, frames), np.float32)
        return "aec_measure_frames", [size, self._floats(size * frames), levels, weights]

    def _levels_above(self) -> tuple[str, list[Any]]:
        size, frames = self._whole(1, 70), self._whole(0, 20)
        levels, scratch = np.empty(frames, np.float32), np.empty(3 * size, np.float32)
        audio = self._floats(size * frames)
        return "aec_levels_above", [size, self._whole(0, size // 2 + 1), audio, levels, scratch]

    def _spectrum(self) -> tuple[str, list[Any]]:
        size, frames = self._whole(2, 70), self._whole(1, 40)
        spectrum, scratch = np.empty((size + 1) // 2, np.float32), np.empty(19 * size, np.float32)
        return "aec_mean_spectrum", [size, self._floats(size * frames), spectrum, scratch]

    def _slopes(self) -> tuple[str, list[Any]]:
        books, frames = self._whole(1, 9), self._whole(0, 20)
        errors = self._floats(books * frames).astype(np.float64)
        return "aec_slopes", [errors, self._rng.integers(0, 9, books) * 1.0, np.empty_like(errors)]

    def _is_noise(self) -> tuple[str, list[Any]]:
        size, frames = self._whole(2, 70), self._whole(1, 40)
        arrays = self._floats(size * frames), self._floats(frames), np.empty(1, np.uint32)
        scratch = np.empty(core().aec_pauses_scratch(size, frames), np.float32)
        return "aec_is_noise", [size, self._whole(0, size // 2 + 1), *arrays, scratch]

    def _pauses(self) -> tuple[str, list[Any]]:
        rate, hop, channels = self._whole(300, 50_000), self._whole(2, 70), self._whole(1, 4)
        limits = np.empty(channels * self._whole(0, 60), np.uint8)
        audio = self._floats(hop * len(limits)) * np.float32(self._rng.choice([1, 1e-4]))
        scratch = np.empty(core().aec_pauses_scratch(hop, len(limits)), np.float32)
        loudest = np.array([self._rng.uniform(-200, 10)])
        return "aec_find_pauses", [rate, hop, channels, audio, loudest, limits, scratch]

    def _lambda(self) -> tuple[str, list[Any]]:
        books, frames = self._whole(1, 9), self._whole(0, 20)
        slopes = self._floats(books * frames).astype(np.float64)
        budget, bits = self._rng.uniform(-9, 2e3), self._rng.uniform(1e-3, 12)
        return "aec_lambda", [books, slopes, budget, bits, np.empty(1)]

    def _rate(self) -> tuple[str, list[Any]]:
        """A packet of a rate control whose state is a good one, or any numbers."""
        books, channels, rate = self._whole(1, 9), self._whole(1, 4), self._rng.uniform(1, 99)
        state = np.empty(core().aec_rate_size(rate, channels, books))
        start = [self._rng.uniform(0, 99), rate, self._rng.uniform(1, 12)]
        call("aec_rate_init", *start, state)
        if self._rng.random() < 0.3:
            state[:] = self._floats(len(state))
        frames = float(self._whole(0, 9))
        slopes = self._floats(int(frames) * channels * books).astype(np.float64)
        spent = [channels, frames, self._rng.uniform(0, 1e4), self._rng.uniform(0, 99), state]
        packet = [channels, books, frames, slopes, state]
        calls: list[tuple[str, list[Any]]] = [
            ("aec_rate_init", [start[0], rate * self._rng.choice([-1, 1]), start[2], state]),
            ("aec_rate_share", packet),
            ("aec_rate_follow", packet),
            ("aec_rate_spent", spent),
        ]
        return calls[self._whole(0, len(calls))]

    def _create_beam(self) -> tuple[str, list[Any]]:
        sizes = BeamSizes(self._whole(1, 5), self._whole(1, 40), self._whole(1, 20))
        books = self._rng.integers(1, 20, self._whole(1, 5)).astype(np.uint32)
        vectors = self._floats(int(books.sum()) * sizes.dim)
        biases = self._floats(len(books) * sizes.latent_dim)
        maps = self._floats(len(biases) * sizes.dim)
        self._beam_shape = len(books), sizes.latent_dim, sizes.num_candidates
        self._beam = _Owned(ctypes.c_void_p(), core().aec_beam_destroy)
        return "aec_beam_create", [sizes, books, vectors, maps, biases, self._beam]

    def _search_beam(self) -> tuple[str, list[Any]]:
        """Of the last beam, which may not have been created."""
        books, latent, count = self._beam_shape
        frames = self._whole(0, 5)
        counts = self._rng.integers(0, books + 1, frames).astype(np.uint32)
        codes, errors = np.empty(frames * count * books, np.int32), self._floats(frames * count)
        return "aec_beam_search", [self._beam, self._floats(frames * latent), counts, codes, errors]

    def _floats(self, count: int) -> np.ndarray:
        """Some of which are no numbers."""
        found = self._rng.standard_normal(count).astype(np.float32)
        if self._rng.random() < 0.2:
            values = (np.nan, np.inf, -np.inf, 1e-42, 3e38)
            found[self._rng.random(count) < 0.1] = values[self._whole(0, len(values))]
        return found

    def _books(self) -> int:
        return self._whole(1, self._shape.num_codebooks + 1)

    def _packets(self, count: int) -> tuple[Packets, int]:
        """A shape, and the rows of a packet."""
        channels, segments = self._whole(1, 4), self._whole(1, 4)
        frames = self._whole(0, int(self._rng.choice([3, 20, 80])))
        flags = self._rng.integers(0, 2, 2).tolist()
        shape = Packets(count, channels, self._books(), frames, segments, *flags)
        return shape, channels * segments

    def _codes(self, size: tuple[int, ...]) -> np.ndarray:
        codes = self._rng.integers(-1, self._shape.codebook_size, size).astype(np.int32)
        return self._changed(codes) if self._rng.random() < 0.1 else codes

    def _states(self, rows: int) -> np.ndarray:
        """Any bytes are a state."""
        size = core().aec_context_state_size(self._model.handle)
        return self._rng.integers(0, 256, (rows, size)).astype(np.uint8)

    def _scratch(self, rows: int) -> np.ndarray:
        """At any address."""
        return np.empty(self._model.scratch(rows).size + 1, np.uint8)[1:]

    def _changed(self, array: np.ndarray) -> np.ndarray:
        """A copy with some values at the ends of their range."""
        found, limits = array.copy(), np.iinfo(array.dtype)
        for _ in range(self._whole(0, 3) if found.size else 0):
            values = (limits.min, limits.max, self._whole(0, 300) % limits.max)
            found.flat[self._whole(0, found.size)] = values[self._whole(0, 3)]
        return found

    def _break(self, arguments: list[Any]) -> None:
        """Change the length of an array, or a size."""
        place = self._whole(0, len(arguments))
        changed = arguments[place]
        if isinstance(changed, np.ndarray):
            flat = changed.reshape(-1)
            shorter = flat[: self._whole(0, flat.size + 1)]
            longer = np.concatenate((flat, np.zeros(self._whole(1, 9), flat.dtype)))
            arguments[place] = np.array((shorter, longer)[self._whole(0, 2)])
        elif isinstance(changed, ctypes.Structure):
            fields = [field[0] for field in type(changed)._fields_]
            value = int(self._rng.choice(NUMBERS))
            setattr(changed, fields[self._whole(0, len(fields))], value & 0x7FFFFFFF)
            if self._rng.random() < 0.5:
                setattr(changed, fields[0], value)
        elif isinstance(changed, int):
            arguments[place] = int(self._rng.choice(NUMBERS))


class _Owned(ctypes.c_void_p):
    """A model that is destroyed with its handle."""

    def __init__(self, handle: ctypes.c_void_p, destroy: Callable[..., None]) -> None:
        super().__init__(handle.value)
        self._destroy = destroy

    def __del__(self) -> None:
        self._destroy(self)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--variants", type=int, default=0, help="of a call, with other numbers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--library", type=Path, help="another build of the core")
    arguments = parser.parse_args()
    library.PATH = arguments.library or library.PATH
    fuzzer = Fuzzer(arguments.seed, arguments.variants)
    fuzzer.run(arguments.calls)
    for name in sorted({name for name, _ in fuzzer.outcomes}):
        accepted, refused = (fuzzer.outcomes[name, each] for each in (True, False))
        print(f"{name}: {accepted} accepted, {refused} refused")


if __name__ == "__main__":
    main()
