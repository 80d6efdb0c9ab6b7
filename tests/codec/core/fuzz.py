"""Random calls of every function of the core, most of which should be refused.

    .ci/sanitize --calls 100000 --variants 99

builds the core with sanitizers and runs this: reads and writes beyond an array end it with a
report. Arrays are as long as they say; the sizes, codes and bytes may be anything.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from codec.core import library
from codec.core.library import (
    HIGH_PASS_STATE,
    BeamSizes,
    ContextSizes,
    Packets,
    Tensor,
    address,
    call,
    core,
)
from codec.core.network import TYPES, shape_of
from codec.core.quantize import quantize
from codec.entropy.context import ContextModel, ContextShape
from codec.errors import CodecError
from tests.codec.core.fuzz_network import random_config, random_weights
from tests.codec.core.kernels import KERNELS
from tests.codec.entropy.oracle import random_context

HOSTILE = (0, 1, 2, 255, 65_535, 65_536, 65_537, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63)
NUMBERS = (*HOSTILE, *range(9))
"""What a size is changed to."""
FLOATS = (np.nan, -np.nan, np.inf, -np.inf, 1e-42, 3e38)
"""What samples and other floats are changed to."""
MODELS = 200
"""Calls for each model."""
BROKEN = 0.5
"""Share of the calls with something wrong."""
SAMPLES = 60
"""The most of a call of the network, which takes longest; but a few models have longer frames."""


class Fuzzer:
    """Random calls.

    Args:
        seed: of all choices.
        variants: further calls with the arguments of one, and another value among them.

    Attributes:
        outcomes: how often each function was accepted and refused.
    """

    def __init__(self, seed: int, variants: int = 0) -> None:
        self._variants = variants
        self._rng = np.random.default_rng(seed)
        self._random = random.Random(seed)  # for single numbers, far faster
        self._kept: list[np.ndarray] = []
        self.outcomes: Counter[tuple[str, bool]] = Counter()
        self._create_beam()
        self._new_model()

    def run(self, calls: int) -> None:
        """Make so many calls."""
        functions = (
            *(self._create, self._encode, self._decode, self._advance, self._search),
            *(self._high_pass, self._measure, self._levels_above, self._spectrum, self._slopes),
            *(self._create_beam, self._search_beam),
            *(self._init_network, self._encode_audio, self._decode_audio, self._encode_audio),
            *(self._is_noise, self._pauses, self._lambda, self._rate),
        )
        for number in range(1, calls + 1):
            if number % MODELS == 0:
                self._new_model()
            name, arguments = functions[self._rng.integers(len(functions))]()
            if self._rng.random() < BROKEN:
                self._break(arguments)
            self._count(name, arguments)
            self._vary(name, arguments)

    def _vary(self, name: str, arguments: list[Any]) -> None:
        """Call it again with the same arrays, but for one value, or one that is shorter."""
        if name.endswith("_create"):
            return
        function, kinds = library._function(name)
        flat: list[Any] = []
        places: list[tuple[int, Any]] = []
        for kind, argument in zip(kinds, arguments, strict=True):
            flat += (argument,) if kind is None else (address(argument), argument.size)
            if isinstance(argument, int | ctypes.Structure | np.ndarray):
                places.append((len(flat) - 1, argument))
        for _ in range(self._variants if places else 0):
            place, value = places[self._whole(0, len(places))]
            given, number = flat.copy(), NUMBERS[self._whole(0, len(NUMBERS))]
            if isinstance(value, ctypes.Structure):
                given[place] = type(value).from_buffer_copy(value)
                self._set(given[place], number)
            elif isinstance(value, int):
                given[place] = number
            elif self._whole(0, 2):
                given[place] = self._whole(0, value.size + 1)
            else:
                self._change(value)
            self.outcomes[name, not function(*given)] += 1

    def _change(self, array: np.ndarray) -> None:
        """One of the values, to something at the end of its range or beyond it."""
        if not array.size:
            return
        values: tuple[float, ...] = FLOATS
        if array.dtype.kind != "f":
            limits = np.iinfo(array.dtype)
            values = limits.min, limits.max, self._whole(0, 300) % limits.max
        array.flat[self._whole(0, array.size)] = values[self._whole(0, len(values))]

    def _count(self, name: str, arguments: list[Any]) -> None:
        try:
            call(name, *arguments)
        except CodecError:
            self.outcomes[name, False] += 1
        else:
            self.outcomes[name, True] += 1

    def _whole(self, low: int, high: int) -> int:
        return self._random.randrange(low, high)

    def _few(self, most: int) -> int:
        """A number below it, mostly a small one."""
        return self._whole(0, most if self._random.random() < 0.05 else min(most, 4))

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
        self._new_network()

    def _new_network(self) -> None:
        self._config = random_config(self._rng)
        while self._config.hop_length > SAMPLES and self._rng.random() < 0.97:
            self._config = random_config(self._rng)
        tensors = quantize(random_weights(self._config, self._rng), self._config)
        entries = [
            Tensor(name.encode(), TYPES[value.dtype.name], value.ctypes.data, value.size)
            for name, value in tensors.items()
        ]
        self._coder = None  # before its model
        self._network = _Owned(ctypes.c_void_p(), core().aec_model_destroy)
        shape, array = shape_of(self._config), (Tensor * len(entries))(*entries)
        self._count("aec_model_create", [shape, array, len(entries), self._network])
        self._coder = _Owned(ctypes.c_void_p(), core().aec_coder_destroy)
        self._count("aec_coder_create", [self._network, self._coder])
        self._set(shape, NUMBERS[self._whole(0, len(NUMBERS))])
        other = _Owned(ctypes.c_void_p(), core().aec_model_destroy)
        self._count("aec_model_create", [shape, array, len(entries), other])
        self._count("aec_coder_create", [None, ctypes.c_void_p()])

    def _init_network(self) -> tuple[str, list[Any]]:
        """The size is that of the memory, whose states may be of any number."""
        side = ("encoder", "decoder")[self._whole(0, 2)]
        size = getattr(core(), f"aec_{side}_state_size")(self._network) * self._whole(0, 3)
        return f"aec_{side}_init", [self._network, *self._memory(size + self._whole(0, 2))]

    def _encode_audio(self) -> tuple[str, list[Any]]:
        rows, frames, books, states = self._step("encoder")
        config = self._config
        audio = self._floats(rows * config.channels * frames * config.hop_length)
        codes = np.empty(rows * books * frames, np.int64)
        errors, _ = self._memory(4 * (codes.size + 16))
        latent = np.empty(rows * frames * config.latent_dim, np.float32)
        return "aec_encode", [
            *(self._coder, rows, frames, books, audio, *states, codes, errors, latent)
        ]

    def _decode_audio(self) -> tuple[str, list[Any]]:
        rows, frames, books, states = self._step("decoder")
        config = self._config
        codes = self._rng.integers(-1, config.codebook_size, (rows, books, frames))
        codes = self._changed(codes) if self._rng.random() < 0.1 else codes
        audio = np.empty(rows * config.channels * frames * config.hop_length, np.float32)
        return "aec_decode", [self._coder, rows, frames, books, codes, *states, audio]

    def _step(self, side: str) -> tuple[int, int, int, list[Any]]:
        """Rows, frames and codebooks, and the places and the size of the states."""
        longest = max(1, SAMPLES // (self._config.hop_length * self._config.channels))
        rows = 1 + self._few(min(40, longest))
        frames = min(self._few(80), max(1, longest // rows))
        books = self._whole(0, self._config.num_codebooks + 1)
        size = rows * getattr(core(), f"aec_{side}_state_size")(self._network)
        if self._rng.random() < 0.05:
            size += self._whole(1, 9)
        (before, length), (after, _) = self._memory(size), self._memory(size)
        if self._rng.random() < 0.5:
            getattr(core(), f"aec_{side}_init")(self._network, before, length)
        return rows, frames, books, [before, after, length]

    def _memory(self, size: int) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
        """Any bytes. Unlike other numbers, their size is what it says."""
        self._kept = [*self._kept[-2:], self._rng.integers(0, 256, size, np.uint8)]
        return ctypes.c_void_p(self._kept[-1].ctypes.data), ctypes.c_size_t(size)

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
        rows, books, frames = self._whole(0, 5), self._books(), self._few(80)
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
        state = self._floats(channels * HIGH_PASS_STATE).astype(np.float64)
        return "aec_high_pass", [rate, hop, channels, audio, state, np.empty_like(audio)]

    def _measure(self) -> tuple[str, list[Any]]:
        size, frames = self._whole(1, 70), self._few(20)
        levels, weights = np.empty((2, frames), np.float32)
        return "aec_measure_frames", [size, self._floats(size * frames), levels, weights]

    def _levels_above(self) -> tuple[str, list[Any]]:
        size, frames = self._whole(1, 70), self._few(20)
        levels, scratch = np.empty(frames, np.float32), np.empty(3 * size, np.float32)
        audio = self._floats(size * frames)
        return "aec_levels_above", [size, self._whole(0, size // 2 + 1), audio, levels, scratch]

    def _spectrum(self) -> tuple[str, list[Any]]:
        size, frames = self._whole(2, 70), 1 + self._few(40)
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
        name, arguments = calls[self._whole(0, len(calls))]
        for place, value in enumerate(arguments):
            if isinstance(value, float) and self._rng.random() < 0.2:
                arguments[place] = FLOATS[self._whole(0, len(FLOATS))]
        return name, arguments

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
            found[self._rng.random(count) < 0.1] = FLOATS[self._whole(0, len(FLOATS))]
        return found

    def _books(self) -> int:
        return self._whole(1, self._shape.num_codebooks + 1)

    def _packets(self, count: int) -> tuple[Packets, int]:
        """A shape, and the rows of a packet."""
        channels, segments = self._whole(1, 4), self._whole(1, 4)
        frames = self._few(80)
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
        found = array.copy()
        for _ in range(self._whole(0, 3)):
            self._change(found)
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
            for _ in range(self._whole(1, 3)):
                self._set(changed, NUMBERS[self._whole(0, len(NUMBERS))])
        elif isinstance(changed, int):
            arguments[place] = NUMBERS[self._whole(0, len(NUMBERS))]
        elif isinstance(changed, ctypes.c_void_p):
            arguments[place] = None

    def _set(self, structure: ctypes.Structure, number: int) -> None:
        """One of its numbers."""
        names = [field[0] for field in structure._fields_]
        name = names[self._whole(0, len(names))]
        value = getattr(structure, name)
        if isinstance(value, int):
            setattr(structure, name, number & 0xFFFFFFFF)
        while isinstance(value, ctypes.Array):
            array, value = value, value[0]
            if isinstance(value, int):
                array[self._whole(0, len(array))] = number & 0xFFFFFFFF


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
